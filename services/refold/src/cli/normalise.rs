//! Go-style flags: `-mode=live` and `-from-offset 0` as well as `--mode=live`.

/// Rewrites `-name` and `-name=value` to their double-dash form, so that the
/// source document's commands can be typed as written. No short flag here has
/// more than one letter, so nothing else begins with a dash and two letters.
/// Everything behind a bare `--` stays as it is, and so does a negative number.
pub fn normalise(args: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut verbatim = false;
    let rewrite = |arg: String| {
        verbatim |= arg == "--";
        let mut name = arg.strip_prefix('-').unwrap_or_default().chars();
        let long = name.next().is_some_and(|c| c.is_ascii_alphabetic())
            && name.next().is_some_and(|c| c != '=');
        if long && !verbatim {
            format!("-{arg}")
        } else {
            arg
        }
    };
    args.into_iter().map(rewrite).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Vec<String> {
        normalise(args.iter().map(ToString::to_string))
    }

    #[test]
    fn long_names_get_their_second_dash() {
        assert_eq!(
            run(&["-mode=live", "-from-offset", "0", "-from-offset=-5"]),
            ["--mode=live", "--from-offset", "0", "--from-offset=-5"]
        );
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let same = [
            "--mode=live",
            "-n",
            "-n=1",
            "-5",
            "-",
            "file",
            "--",
            "-mode",
        ];
        assert_eq!(run(&same), same);
    }
}
