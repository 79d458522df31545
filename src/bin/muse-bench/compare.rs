//! Is it faster than before?

use muse::bench::{Record, Series, Subject, ratio};
use muse::{Error, Result};

use crate::options::CompareArgs;

/// A verb with less than this part of all verbs' time can't be told to be slower: its few calls take as long as what
/// ran before them lets them.
const SHORT: f64 = 1e-3;

/// Whether B has a regression.
pub fn run(arguments: &CompareArgs) -> Result<bool> {
    let (a, b) = (Record::read(&arguments.a)?, Record::read(&arguments.b)?);
    let threshold = arguments.threshold / 100.0;
    let (mut compared, mut regressions) = (0, Vec::new());
    for b in &b {
        // The dtype, steps and all else must be the same: what differs may be the program and the machine.
        let same =
            |a: &&Record| a.command == b.command && subject(a) == subject(b) && peer(a) == peer(b);
        let Some(a) = a.iter().find(same) else { continue };
        if a.simulated || b.simulated {
            let problem = "a simulator's record: it holds no times to compare";
            return Err(Error::Model { path: arguments.b.clone(), problem: problem.into() });
        }
        println!(
            "A {} {}\nB {} {}",
            a.program.commit, a.program.hash, b.program.commit, b.program.hash
        );
        if a.machine.device != b.machine.device {
            println!("on two machines: {}; {}", a.machine.device, b.machine.device);
        }
        println!(
            "{:<26} {:>10} {:>10} {:>8} {:>17}",
            "median ms", "A", "B", "B/A", "95 % interval"
        );
        let verbs = b.series.iter().filter(|series| is_verb(series));
        let short = SHORT * verbs.map(|series| series.summary.median).sum::<f64>();
        for series in &b.series {
            let Some(before) = a.series(&series.name) else { continue };
            let Some(found) = ratio(&before.ms, &series.ms, arguments.paired) else {
                let problem = format!(
                    "{}: {} samples against {}; pairs need as many of both",
                    series.name,
                    before.ms.len(),
                    series.ms.len()
                );
                return Err(Error::Model { path: arguments.b.clone(), problem });
            };
            compared += 1;
            // One sample has no spread to tell a change by.
            let spread = before.ms.len().min(series.ms.len()) > 1;
            let short = is_verb(series) && series.summary.median < short;
            let slower = spread && found.is_regression(threshold);
            let remark = match slower {
                true if short => "  (short)",
                true => "  SLOWER",
                false => "",
            };
            println!(
                "{:<26} {:>10.3} {:>10.3} {:>8.3} {:>8.3} {:>8.3}{}",
                series.name,
                before.summary.median,
                series.summary.median,
                found.ratio,
                found.low,
                found.high,
                remark
            );
            if slower && !short {
                regressions.push(series.name.clone());
            }
        }
    }
    if compared == 0 {
        let problem = "nothing that the other record holds too; both must be of one command, model, dtype and settings";
        return Err(Error::Model { path: arguments.b.clone(), problem: problem.into() });
    }
    match regressions.is_empty() {
        true => println!("no regression beyond {} %", arguments.threshold),
        false => {
            println!("slower by more than {} %: {}", arguments.threshold, regressions.join(", "))
        }
    }
    Ok(!regressions.is_empty())
}

fn is_verb(series: &Series) -> bool {
    series.name.starts_with("verb ")
}

fn subject(record: &Record) -> Option<&Subject> {
    record.subject.as_ref()
}

fn peer(record: &Record) -> Option<&str> {
    record.peer.as_ref().map(|peer| peer.name.as_str())
}
