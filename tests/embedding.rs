//! The engine as a part of other programs: from several threads, several of them, cancelled from elsewhere.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use muse::decode::Step;
use muse::{Cancel, Engine, EngineOptions, Error, Generated, Request, Size};

fn engine(threads: usize) -> Engine {
    let options = EngineOptions { threads: Some(threads), ..EngineOptions::default() };
    Engine::load(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo"), options).unwrap()
}

fn request(seed: u64) -> Request {
    let mut request = Request { seed, size: Size::Base, ..Request::new("a frog above a banana") };
    request.base.steps = Some(2);
    request
}

/// Waits until `count` calls wait for their turn.
fn until_waiting(engine: &Engine, count: usize) {
    while engine.waiting() < count {
        thread::yield_now();
    }
}

#[test]
fn what_threads_share_can_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Engine>();
    shared::<Cancel>();
    shared::<Request>();
    shared::<Generated>();
    shared::<Error>();
}

#[test]
fn callers_are_served_in_the_order_in_which_they_came() {
    let engine = &engine(1);
    let served = &Mutex::new(Vec::new());
    let (release, held) = channel();
    let order: Vec<u64> = vec![5, 3, 4, 1, 2, 0];
    let alone: Vec<_> = (0..6).map(|seed| engine.generate(&request(seed)).unwrap()).collect();
    let made: Vec<(u64, Generated)> = thread::scope(|scope| {
        let (started, first) = channel();
        scope.spawn(move || {
            let mut on_step = |step: Step<'_>| {
                if step.step == 0 {
                    started.send(()).unwrap();
                    held.recv().unwrap();
                    // Whose turn it is may call again, and look at its own picture.
                    engine.generate(&request(9)).unwrap();
                    engine.preview(&step).unwrap();
                }
                ControlFlow::Continue(())
            };
            engine.generate_with(&request(7), &mut on_step).unwrap();
        });
        first.recv().unwrap();
        let mut callers = Vec::new();
        for (i, &seed) in order.iter().enumerate() {
            callers.push(scope.spawn(move || {
                let mut on_step = |step: Step<'_>| {
                    served.lock().unwrap().push((seed, step.step));
                    ControlFlow::Continue(())
                };
                (seed, engine.generate_with(&request(seed), &mut on_step).unwrap())
            }));
            until_waiting(engine, i + 1);
        }
        release.send(()).unwrap();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let expected: Vec<_> = order.iter().flat_map(|&seed| [(seed, 0), (seed, 1)]).collect();
    assert_eq!(*served.lock().unwrap(), expected);
    assert_eq!(engine.waiting(), 0);
    for (seed, generated) in made {
        let alone = &alone[seed as usize];
        assert_eq!(generated.base_tokens, alone.base_tokens, "seed {seed}");
        assert_eq!(generated.image, alone.image, "seed {seed}");
    }
}

/// What was cancelled while it waited leaves at once; those behind it keep their places.
#[test]
fn a_request_is_cancelled_while_it_waits_and_while_it_runs() {
    let engine = &engine(1);
    let (running, waiting) = (Cancel::new(), Cancel::new());
    thread::scope(|scope| {
        let (started, first) = channel();
        let (release, held) = channel::<()>();
        let cancel = running.clone();
        let runs = scope.spawn(move || {
            let request = Request { cancel: Some(cancel), ..request(1) };
            let mut seen = 0;
            let mut on_step = |_: Step<'_>| {
                seen += 1;
                started.send(()).unwrap();
                held.recv().unwrap();
                ControlFlow::Continue(())
            };
            (engine.generate_with(&request, &mut on_step).unwrap_err(), seen)
        });
        first.recv().unwrap();
        let cancel = waiting.clone();
        let waits = scope.spawn(move || {
            let request = Request { cancel: Some(cancel), ..request(2) };
            engine.generate_many(&request, 3, None).unwrap_err()
        });
        until_waiting(engine, 1);
        let last = scope.spawn(move || engine.generate(&request(3)).unwrap());
        until_waiting(engine, 2);

        waiting.cancel();
        let error = waits.join().unwrap();
        assert!(matches!(error, Error::Cancelled { stage: "", .. }), "{error}");
        assert_eq!(error.to_string(), "cancelled by the caller before the first step");
        assert_eq!(engine.waiting(), 1, "one still runs, and one waits for it");

        running.cancel();
        release.send(()).unwrap();
        let (error, seen) = runs.join().unwrap();
        assert!(matches!(error, Error::Cancelled { stage: "base", step: 1 }), "{error}");
        assert_eq!(seen, 1, "nothing is shown after the cancellation");
        last.join().unwrap();
    });
    let late = Request { cancel: Some(running), ..request(4) };
    assert!(matches!(engine.generate(&late), Err(Error::Cancelled { .. })));
    assert!(engine.generate(&Request { cancel: Some(Cancel::new()), ..request(4) }).is_ok());
}

/// What asks whether it is cancelled is asked while it waits, with nothing to wake it, and after every step, by the
/// thread that called.
#[test]
fn a_request_asks_whether_it_is_cancelled() {
    let engine = &engine(1);
    let interrupted = Arc::new(AtomicBool::new(false));
    let caller = thread::current().id();
    let asked = interrupted.clone();
    let by_caller = move || thread::current().id() == caller && asked.load(Ordering::SeqCst);
    let request = Request { cancel: Some(Cancel::when(by_caller)), ..request(1) };
    assert!(engine.generate(&request).is_ok());
    thread::scope(|scope| {
        let (started, first) = channel();
        let (release, held) = channel::<()>();
        let runs = scope.spawn(move || {
            let mut on_step = |_: Step<'_>| {
                started.send(()).unwrap();
                held.recv().unwrap();
                ControlFlow::Break(())
            };
            engine.generate_with(&self::request(2), &mut on_step).unwrap_err()
        });
        first.recv().unwrap();
        let interrupts = scope.spawn({
            let interrupted = interrupted.clone();
            move || {
                until_waiting(engine, 1);
                interrupted.store(true, Ordering::SeqCst);
            }
        });
        let error = engine.generate(&request).unwrap_err();
        assert!(matches!(error, Error::Cancelled { stage: "", .. }), "{error}");
        interrupts.join().unwrap();
        release.send(()).unwrap();
        runs.join().unwrap();
    });

    let asked = interrupted.clone();
    interrupted.store(false, Ordering::SeqCst);
    let cancel = Cancel::when(move || asked.load(Ordering::SeqCst));
    let request = Request { cancel: Some(cancel.clone()), ..self::request(1) };
    let mut on_step = |_: Step<'_>| {
        interrupted.store(true, Ordering::SeqCst);
        ControlFlow::Continue(())
    };
    let error = engine.generate_with(&request, &mut on_step).unwrap_err();
    assert!(matches!(error, Error::Cancelled { stage: "base", step: 1 }), "{error}");
    interrupted.store(false, Ordering::SeqCst);
    assert!(cancel.is_cancelled(), "it stays so");
}

/// A panic in a callback is the caller's; the turn passes on.
#[test]
fn a_panicking_callback_gives_its_turn_back() {
    let engine = engine(1);
    let panics = || engine.generate_with(&request(1), &mut |_| panic!("the caller's"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    assert_eq!(engine.waiting(), 0);
    thread::scope(|scope| scope.spawn(|| engine.generate(&request(1)).unwrap()).join().unwrap());
}

#[test]
fn several_engines_do_not_disturb_each_other() {
    let engines = [engine(1), engine(2)];
    let alone: Vec<_> = (0..4).map(|seed| engines[0].generate(&request(seed)).unwrap()).collect();
    thread::scope(|scope| {
        for engine in engines.iter().chain(&engines) {
            let alone = &alone;
            scope.spawn(move || {
                for (seed, alone) in (0..4).zip(alone) {
                    let generated = engine.generate(&request(seed)).unwrap();
                    assert_eq!(generated.base_tokens, alone.base_tokens, "seed {seed}");
                }
            });
        }
    });
}

/// The parts that other programs put together themselves.
#[test]
fn text_states_and_tokens_go_out_and_in() {
    let flat = tempfile::tempdir().unwrap();
    fixtures::write("flat", flat.path()).unwrap();
    let amused = EngineOptions { dtype: muse::Precision::F32, ..EngineOptions::default() };
    let amused = Engine::load(flat.path(), amused).unwrap();
    for (engine, sizes) in [(engine(2), &[Size::Base, Size::Full][..]), (amused, &[Size::Full])] {
        let embeddings = engine.embed("a frog above a banana").unwrap();
        assert_eq!(engine.embed("a frog above a banana").unwrap(), embeddings);
        assert_ne!(engine.embed("a frog").unwrap(), embeddings);
        assert_eq!(embeddings.states.len() % embeddings.rows, 0);
        for &size in sizes {
            let expected = engine.generate(&Request { size, ..request(3) }).unwrap();
            let embeddings = Some(embeddings.clone());
            let described = Request { prompt: String::new(), embeddings, size, ..request(3) };
            let found = engine.generate(&described).unwrap();
            assert!(found.image == expected.image && found.base_tokens == expected.base_tokens);
            let tokens = expected.superres_tokens.as_ref().unwrap_or(&expected.base_tokens);
            assert!(engine.decode(tokens, size).unwrap() == expected.image);
            let mut unknown = tokens.clone();
            unknown[1] = 1 << 20;
            for (tokens, problem) in
                [(&tokens[1..], "tokens: ".to_owned()), (&unknown, "tokens: 1048576".into())]
            {
                let error = engine.decode(tokens, size).unwrap_err().to_string();
                assert!(error.contains(&problem), "{error}");
            }
        }
        let refused = |change: &dyn Fn(&mut muse::Embeddings)| {
            let mut embeddings = embeddings.clone();
            change(&mut embeddings);
            let request = Request { embeddings: Some(embeddings), ..request(3) };
            engine.generate(&request).unwrap_err().to_string()
        };
        for change in [
            &(|e: &mut muse::Embeddings| e.rows = 0) as &dyn Fn(&mut muse::Embeddings),
            &|e| e.rows += 1,
            &|e| e.states.truncate(3),
            &|e| e.pooled.push(1.0),
            &|e| e.states[5] = f32::NAN,
        ] {
            let error = refused(change);
            assert!(error.starts_with("embeddings: "), "{error}");
        }
    }
}
