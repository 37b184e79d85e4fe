//! What SQL may not do: overwrite a row without looking at its position, or alter a read model;
//! and where SQL text may be put together.

use crate::files::{Finding, TextFile, line_of};
use crate::rust_source::RustSource;

/// Columns that say how far a row, or an offset, has come.
const POSITIONS: &[&str] = &[
    "off",
    "offset",
    "applied_seq",
    "applied_offset",
    "agg_version",
    "epoch",
    "next_offset",
    "generation",
    "version",
];

/// Changes of a read model that do not touch its shape: a leaf gets its key when it is filled,
/// and joins or leaves the parent that people query.
const BUILDING: &[&str] = &["add primary key", "attach partition", "detach partition"];

/// Findings in one `.sql` file.
pub(crate) fn check_sql(file: &TextFile) -> Vec<Finding> {
    let blanked = blank_comments(&file.text);
    let mut findings = Vec::new();
    let mut start = 0;
    for statement in blanked.split_inclusive(';') {
        let first = statement.len() - statement.trim_start().len();
        let words = normalise(statement);
        let complaints = [unguarded_upsert(&words), altered_read_model(&words)];
        for what in complaints.into_iter().flatten() {
            findings.push(Finding {
                path: file.path.clone(),
                line: line_of(&file.text, start + first),
                what,
            });
        }
        start += statement.len();
    }
    findings
}

fn unguarded_upsert(statement: &str) -> Option<String> {
    let mut rest = statement;
    while let Some(at) = rest.find("on conflict") {
        let clause = &rest[at + "on conflict".len()..];
        // Up to the next upsert: two of them in one statement each need their own guard.
        let own = &clause[..clause.find("on conflict").unwrap_or(clause.len())];
        if let Some(update) = own.find("do update") {
            let guard = own[update..].find(" where ").map(|w| &own[update + w..]);
            if !guard.is_some_and(mentions_position) {
                return Some(
                    "`on conflict ... do update` without a `where` on an offset or version".into(),
                );
            }
        }
        rest = clause;
    }
    None
}

fn mentions_position(clause: &str) -> bool {
    clause
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .any(|word| POSITIONS.contains(&word))
}

fn altered_read_model(statement: &str) -> Option<String> {
    let mut rest = statement;
    while let Some(at) = rest.find("alter table") {
        let target = &rest[at + "alter table".len()..];
        let own = &target[..target.find("alter table").unwrap_or(target.len())];
        let is_read_model = own
            .split(|c: char| c.is_whitespace() || matches!(c, '\'' | '(' | '"'))
            .any(|word| word == "rm" || word.starts_with("rm."));
        if is_read_model && !BUILDING.iter().any(|allowed| own.contains(allowed)) {
            return Some("a read model is never altered: a new shape is a new version".into());
        }
        rest = target;
    }
    None
}

/// Lower case, single spaces, so that patterns match however the statement is laid out.
fn normalise(statement: &str) -> String {
    let words: Vec<&str> = statement.split_whitespace().collect();
    format!("{} ", words.join(" ").to_lowercase())
}

/// Replaces `-- ...` and `/* ... */` by spaces, so that positions stay.
fn blank_comments(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("--").into_iter().chain(rest.find("/*")).min() {
        let comment = &rest[start..];
        let length = if comment.starts_with("--") {
            comment.find('\n').unwrap_or(comment.len())
        } else {
            comment.find("*/").map_or(comment.len(), |end| end + 2)
        };
        blanked.push_str(&rest[..start]);
        blanked.extend(
            comment[..length]
                .bytes()
                .map(|b| if b == b'\n' { '\n' } else { ' ' }),
        );
        rest = &comment[length..];
    }
    blanked.push_str(rest);
    blanked
}

/// Findings in one Rust file: SQL text that is assembled outside the modules listed in
/// `allowed` (paths below the root; a path that ends with `/` covers a directory).
pub(crate) fn check_rust(file: &TextFile, allowed: &[String]) -> Vec<Finding> {
    let listed = allowed
        .iter()
        .any(|path| *path == file.path || (path.ends_with('/') && file.path.starts_with(path)));
    // Examples measure and tests look: neither is linked into a product.
    let beside = ["/tests/", "/examples/"];
    if listed || beside.iter().any(|dir| file.path.contains(dir)) {
        return Vec::new();
    }
    let source = RustSource::scan(&file.text);
    let code = source.code();
    let tests = source.test_regions();
    source
        .literals()
        .into_iter()
        .filter(|(at, _)| !tests.iter().any(|region| region.contains(at)))
        .filter(|(at, literal)| {
            let before = code[..*at].trim_end();
            let assembles = ["format!(", "write!(", "writeln!(", "push_str("]
                .iter()
                .any(|call| before.ends_with(call))
                || (before.ends_with(',') && last_call_is_write(before));
            assembles && literal.contains('{') && looks_like_sql(literal)
        })
        .map(|(at, _)| Finding {
            path: file.path.clone(),
            line: line_of(&file.text, at),
            what: "SQL text is put together here; the modules that may are in ops/sql-allow.txt"
                .into(),
        })
        .collect()
}

/// `write!(target, "...`: the literal is the second argument.
fn last_call_is_write(before: &str) -> bool {
    before.rfind('(').is_some_and(|open| {
        before[..open].ends_with("write!") || before[..open].ends_with("writeln!")
    })
}

fn looks_like_sql(literal: &str) -> bool {
    let text = normalise(literal.trim_start_matches(['r', '#', '"']));
    let follows = |verb: &str, nexts: &[&str]| {
        text.strip_prefix(verb)
            .is_some_and(|rest| nexts.iter().any(|next| rest.contains(next)))
    };
    let object = [
        "table", "index", "unique", "schema", "database", "view", "role", "function", "unlogged",
    ];
    let object_next = |verb: &str| {
        text.strip_prefix(verb)
            .is_some_and(|rest| object.iter().any(|word| rest.starts_with(word)))
    };
    follows("select ", &[" from ", "("])
        || text.starts_with("insert into ")
        || text.starts_with("delete from ")
        || text.starts_with("truncate ")
        || follows("update ", &[" set "])
        || follows("copy ", &[" from ", " to "])
        || follows("with ", &["select ", "insert ", "update "])
        || ["create ", "alter ", "drop "].into_iter().any(object_next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(text: &str) -> Vec<Finding> {
        check_sql(&TextFile {
            path: "a.sql".into(),
            text: text.into(),
        })
    }

    fn rust(path: &str, text: &str) -> usize {
        let file = TextFile {
            path: path.into(),
            text: text.into(),
        };
        check_rust(&file, &["store/leaf.rs".into(), "sql/".into()]).len()
    }

    #[test]
    fn an_upsert_without_a_guard_is_refused_with_its_line() {
        let found = sql(
            "select 1;\n-- why\ninsert into t values (1)\n on conflict (k) do update set v = 1;",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 3);
    }

    #[test]
    fn a_guard_on_something_else_is_refused() {
        let text = "insert into t values (1) on conflict (k) do update set v = 1 where t.k > 0;";
        assert_eq!(sql(text).len(), 1);
        let in_comment =
            "insert into t select 1 on conflict (k) do update set v = 1 -- where off\n;";
        assert_eq!(sql(in_comment).len(), 1);
        let words_only =
            "insert into t select 1 on conflict (k) do update set v = 1 where coffee > 1;";
        assert_eq!(sql(words_only).len(), 1);
    }

    #[test]
    fn each_of_two_upserts_needs_its_own_guard() {
        let text = "with a as (insert into t select 1 on conflict (k) do update set v = 1) \
                    insert into u select 1 on conflict (k) do update set off = 1 where excluded.off > u.off;";
        assert_eq!(sql(text).len(), 1);
    }

    #[test]
    fn guarded_upserts_and_do_nothing_pass() {
        let text = "INSERT INTO t VALUES (1)\nON CONFLICT (k) DO UPDATE SET v = 1\nWHERE EXCLUDED.off > t.off;
                    insert into t values (1) on conflict do nothing;";
        assert!(sql(text).is_empty());
    }

    #[test]
    fn altering_a_read_model_is_refused_even_in_dynamic_sql() {
        assert_eq!(sql("alter table rm.v1_p0 add column x int;").len(), 1);
        assert_eq!(
            sql("execute format('ALTER TABLE rm.v%s_p%s ADD x int', a, b);").len(),
            1
        );
        assert_eq!(sql("alter table only \"rm\".v1 drop column x;").len(), 1);
    }

    #[test]
    fn building_a_leaf_and_altering_control_tables_pass() {
        assert!(sql("alter table rm.v1_p0 add primary key (key);").is_empty());
        assert!(sql("alter table rm.v1 attach partition rm.v1_p0 for values in (0);").is_empty());
        assert!(sql("alter table versions add column note text;").is_empty());
    }

    #[test]
    fn assembled_sql_is_refused_outside_the_listed_modules() {
        let text = "fn f() { let q = format!(\"select {c} from t\"); }";
        assert_eq!(rust("store/read.rs", text), 1);
        assert_eq!(rust("store/leaf.rs", text), 0);
        assert_eq!(rust("sql/any.rs", text), 0);
        assert_eq!(rust("store/examples/read.rs", text), 0);
        let written = "fn f() { write!(out, \"INSERT INTO {t} values (1)\"); }";
        assert_eq!(rust("store/read.rs", written), 1);
    }

    #[test]
    fn sentences_fixed_statements_and_tests_pass() {
        let text = "fn f() { format!(\"update of {x} failed\"); format!(\"drop {x}\"); \
                    query(\"select a from t\"); }\n\
                    #[cfg(test)] mod tests { fn g() { format!(\"select {c} from t\"); } }";
        assert_eq!(rust("store/read.rs", text), 0);
    }
}
