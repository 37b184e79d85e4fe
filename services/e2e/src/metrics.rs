//! One answer of `/metrics`.

/// The samples of one scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics(String);

impl Metrics {
    pub(crate) fn new(body: String) -> Self {
        Self(body)
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The samples of a metric that carry all these labels: their label text and value.
    pub fn samples<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (found, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let carries =
                |(label, value): &(&str, &str)| found.contains(&format!("{label}=\"{value}\""));
            let value = value.split(' ').next()?.parse().ok()?;
            labels.iter().all(carries).then_some((found, value))
        })
    }

    /// Their sum; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).map(|(_, value)| value).sum()
    }

    /// The value of the one sample that carries these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.samples(name, labels).map(|(_, value)| value).next()
    }

    /// The value of a label in a sample's label text.
    pub fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
        let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
        labels[start..].split('"').next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP a b\na{p=\"1\",q=\"x\"} 3\na{p=\"2\",q=\"x\"} 4.5\nab 7\na_sum 1\n";
        let metrics = Metrics::new(text.to_owned());
        assert!((metrics.sum("a", &[("q", "x")]) - 7.5).abs() < 1e-9);
        assert_eq!(metrics.value("a", &[("p", "2")]), Some(4.5));
        assert_eq!(metrics.value("ab", &[]), Some(7.0));
        assert_eq!(metrics.value("a", &[("p", "3")]), None);
        assert_eq!(Metrics::label("p=\"1\",q=\"x\"", "q"), Some("x"));
    }
}
