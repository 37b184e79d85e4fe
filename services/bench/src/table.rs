//! Figures as comma-separated values.

/// A table with a header line. Fields with a comma, a quote or a line break are quoted.
pub fn csv(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = header.join(",");
    out.push('\n');
    for row in rows {
        let fields: Vec<String> = row.iter().map(|field| quoted(field)).collect();
        out.push_str(&fields.join(","));
        out.push('\n');
    }
    out
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// A figure with about four significant digits, and without trailing zeros.
pub fn figure(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (3 - magnitude).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_need_it_are_quoted() {
        let rows = [vec!["a,b".to_owned(), "say \"no\"".to_owned()]];
        assert_eq!(csv(&["x", "y"], &rows), "x,y\n\"a,b\",\"say \"\"no\"\"\"\n");
    }

    #[test]
    fn figures_have_four_digits() {
        let told = [9_512_345.0, 147.26, 0.012_345_6, 0.0, 3.0].map(figure);
        assert_eq!(told, ["9512345", "147.3", "0.01235", "0", "3"]);
    }
}
