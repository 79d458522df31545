//! The line of jobs: first come, first served, one at a time; everyone knows how many are ahead.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Most jobs that wait.
const LONGEST: usize = 32;

pub struct Line {
    tickets: Mutex<Tickets>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Tickets {
    next: u64,
    waiting: VecDeque<u64>, // the first is served
}

/// A place in the line, given up when dropped.
pub struct Place {
    line: Arc<Line>,
    ticket: u64,
}

impl Line {
    pub fn new() -> Arc<Self> {
        Arc::new(Line { tickets: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// A place at the end, if the line is not too long.
    pub fn join(self: &Arc<Self>) -> Option<Place> {
        self.with(|tickets| {
            (tickets.waiting.len() < LONGEST).then(|| {
                let ticket = tickets.next;
                tickets.next += 1;
                tickets.waiting.push_back(ticket);
                Place { line: self.clone(), ticket }
            })
        })
    }

    /// Jobs in the line, the one that is served among them.
    pub fn len(&self) -> usize {
        self.with(|tickets| tickets.waiting.len())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Tickets) -> T) -> T {
        work(&mut self.tickets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Place {
    /// How many are ahead; 0 is being served.
    pub fn ahead(&self) -> usize {
        let place = |tickets: &mut Tickets| tickets.waiting.iter().position(|&t| t == self.ticket);
        self.line.with(place).unwrap_or(0)
    }

    /// Tells when the line has changed since it was asked for.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.line.changed.subscribe()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.with(|tickets| tickets.waiting.retain(|&ticket| ticket != self.ticket));
        self.line.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_move_up_as_others_leave_wherever_they_stand() {
        let line = Line::new();
        let places: Vec<Place> = (0..4).map(|_| line.join().unwrap()).collect();
        assert_eq!(places.iter().map(Place::ahead).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let mut places = places.into_iter();
        let (first, second, third, fourth) =
            (places.next(), places.next(), places.next().unwrap(), places.next().unwrap());
        let mut changes = third.changes();
        assert!(!changes.has_changed().unwrap());
        drop(second);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!((third.ahead(), fourth.ahead(), line.len()), (1, 2, 3));
        drop(first);
        assert_eq!((third.ahead(), fourth.ahead(), line.len()), (0, 1, 2));
    }

    #[test]
    fn a_long_line_is_closed_until_it_is_shorter() {
        let line = Line::new();
        let mut places: Vec<Place> = (0..LONGEST).map(|_| line.join().unwrap()).collect();
        assert!(line.join().is_none());
        places.pop();
        assert!(line.join().is_some());
    }
}
