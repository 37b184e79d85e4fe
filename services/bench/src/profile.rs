//! CPU profiles as folded stacks: one line a stack, outermost frame first, with the number of
//! samples. Flame graph programs read it, and so do people.

use std::collections::BTreeMap;

/// Folds what `perf script` prints.
///
/// A sample is a line that names the thread, a line a frame, innermost first, and an empty
/// line. Frames without a symbol are taken together as `[unknown]`, offsets inside a function
/// are dropped.
pub fn fold(script: &str) -> String {
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    let mut thread: Option<String> = None;
    let mut frames: Vec<String> = Vec::new();
    for line in script.lines().chain([""]) {
        if line.trim().is_empty() {
            if let Some(name) = thread.take() {
                frames.push(name);
                frames.reverse();
                frames.dedup();
                *stacks.entry(frames.join(";")).or_insert(0) += 1;
            }
            frames.clear();
        } else if line.starts_with(char::is_whitespace) {
            frames.extend(frame(line));
        } else {
            thread = Some(thread_name(line));
        }
    }
    let lines = stacks.into_iter();
    lines
        .map(|(stack, samples)| format!("{stack} {samples}\n"))
        .collect()
}

/// `name pid time: ...`: the name may hold blanks; the pid is the last number before the time.
fn thread_name(line: &str) -> String {
    let head = line.split(':').next().unwrap_or_default();
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if let Some(at) = words
        .iter()
        .position(|word| word.ends_with(':') && word.contains('.'))
    {
        words.truncate(at.saturating_sub(1));
        return words.join(" ").replace(';', ":");
    }
    head.trim().replace(';', ":")
}

/// `address symbol+0xoffset (file)`.
fn frame(line: &str) -> Option<String> {
    let (_, rest) = line.trim().split_once(' ')?;
    let symbol = rest.rsplit_once(" (").map_or(rest, |(symbol, _)| symbol);
    let symbol = symbol.rsplit_once("+0x").map_or(symbol, |(name, _)| name);
    Some(symbol.replace(';', ":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
bulk-p3  5641  2198.394990:   10101010 cpu-clock:ppp: 
\t            aed2 refold_domain::fold::apply+0x12 (/usr/bin/refold)
\t            aed0 refold_system::bulk::run+0x44 (/usr/bin/refold)

bulk-p3  5641  2198.404990:   10101010 cpu-clock:ppp: 
\t            aed9 refold_domain::fold::apply+0x19 (/usr/bin/refold)
\t            aed0 refold_system::bulk::run+0x44 (/usr/bin/refold)

data plane 4  77  2198.5:   10101010 cpu-clock:ppp: 
\t    555a0627eab8 [unknown] ([unknown])
\t    555a0627eab0 [unknown] ([unknown])
";

    #[test]
    fn equal_stacks_are_counted_and_unknown_frames_joined() {
        let folded = fold(SCRIPT);
        let expected = "bulk-p3;refold_system::bulk::run;refold_domain::fold::apply 2\n\
                        data plane 4;[unknown] 1\n";
        assert_eq!(folded, expected);
    }

    #[test]
    fn nothing_folds_to_nothing() {
        assert_eq!(fold(""), "");
    }
}
