//! Telling how far a seed is: a bar on a terminal, a line every ten seconds
//! anywhere else.

use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const REDRAW_EVERY: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Whether and where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// On standard error: a bar if that is a terminal, lines otherwise.
    #[default]
    Shown,
    /// Not at all.
    Silent,
}

/// Shows `done()` of `total` events until `finished` is closed.
pub(crate) fn show(
    progress: Progress,
    total: u64,
    done: impl Fn() -> u64,
    finished: &Receiver<()>,
) {
    match progress {
        Progress::Silent => {}
        Progress::Shown if std::io::stderr().is_terminal() => bar(total, done, finished),
        Progress::Shown => lines(total, done, finished),
    }
}

fn bar(total: u64, done: impl Fn() -> u64, finished: &Receiver<()>) {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template(
        "{wide_bar} {human_pos}/{human_len} events  {per_sec}  ETA {eta}",
    );
    if let Ok(style) = style {
        bar.set_style(style);
    }
    while waits(finished, REDRAW_EVERY) {
        bar.set_position(done());
    }
    bar.set_position(done());
    bar.finish();
}

fn lines(total: u64, done: impl Fn() -> u64, finished: &Receiver<()>) {
    let started = Instant::now();
    while waits(finished, LINE_EVERY) {
        eprintln!("{}", line(total, done(), started.elapsed()));
    }
}

fn line(total: u64, done: u64, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let eta = match rate {
        rate if rate > 0.0 => format!("{:.0} s", total.saturating_sub(done) as f64 / rate),
        _ => "unknown".to_owned(),
    };
    let percent = done as f64 * 100.0 / total.max(1) as f64;
    format!("{done} of {total} events ({percent:.1} %), {rate:.0}/s, ETA {eta}")
}

/// Whether the work went on for all of `pause`.
fn waits(finished: &Receiver<()>, pause: Duration) -> bool {
    finished.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_rate_and_remaining_time() {
        assert_eq!(
            line(2_000, 500, Duration::from_secs(10)),
            "500 of 2000 events (25.0 %), 50/s, ETA 30 s"
        );
        assert_eq!(
            line(2_000, 0, Duration::from_secs(10)),
            "0 of 2000 events (0.0 %), 0/s, ETA unknown"
        );
    }
}
