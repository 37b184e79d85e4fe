//! Go-style flags: `-mode=live` and `-from-offset 0` as well as `--mode=live`.

/// Rewrites `-name` and `-name=value` to their double-dash form when `name` is
/// one of `known`, so that the source document's commands can be typed as
/// written. Everything behind a bare `--` stays as it is, and so does a
/// negative number that is a flag's value.
pub fn normalise(args: impl IntoIterator<Item = String>, known: &[String]) -> Vec<String> {
    let mut verbatim = false;
    let rewrite = |arg: String| {
        verbatim |= arg == "--";
        let Some(rest) = arg.strip_prefix('-').filter(|_| !verbatim) else {
            return arg;
        };
        let name = rest.split_once('=').map_or(rest, |(name, _)| name);
        if name.len() > 1 && known.iter().any(|k| k == name) {
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
        let known = ["mode", "from-offset", "version"].map(str::to_owned);
        normalise(args.iter().map(ToString::to_string), &known)
    }

    #[test]
    fn known_names_get_their_second_dash() {
        assert_eq!(
            run(&["-mode=live", "-from-offset", "0", "-from-offset=-5"]),
            ["--mode=live", "--from-offset", "0", "--from-offset=-5"]
        );
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let same = ["--mode=live", "-v", "-5", "-unknown", "file", "--", "-mode"];
        assert_eq!(run(&same), same);
    }
}
