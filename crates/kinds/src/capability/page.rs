//! Prometheus's text format: families in the order of their first sample, each with all its samples.

use std::fmt;

use indexmap::IndexMap;

#[derive(Debug, Default)]
pub struct Page {
    families: IndexMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    kind: &'static str,
    samples: Vec<PageSample>,
}

/// One value with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct PageSample {
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: Labels<'_>, value: f64) {
        self.add(name, help, "gauge", labels, value);
    }

    /// A value that only grows while its server runs.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: Labels<'_>, value: f64) {
        self.add(name, help, "counter", labels, value);
    }

    pub fn is_empty(&self) -> bool {
        self.families.is_empty()
    }

    /// Every sample, under the name of its family.
    pub fn samples(&self) -> impl Iterator<Item = (&'static str, &PageSample)> {
        self.families.iter().flat_map(|(name, family)| family.samples.iter().map(|sample| (*name, sample)))
    }

    fn add(&mut self, name: &'static str, help: &'static str, kind: &'static str, labels: Labels<'_>, value: f64) {
        let family = self.families.entry(name).or_insert_with(|| Family { help, kind, samples: Vec::new() });
        let labels = labels.iter().map(|(label, text)| ((*label).to_owned(), (*text).to_owned())).collect();
        family.samples.push(PageSample { labels, value });
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, Family { help, kind, samples }) in &self.families {
            write!(f, "# HELP {name} {help}\n# TYPE {name} {kind}\n")?;
            for PageSample { labels, value } in samples {
                f.write_str(name)?;
                for (index, (label, text)) in labels.iter().enumerate() {
                    let before = if index == 0 { '{' } else { ',' };
                    let text = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
                    write!(f, "{before}{label}=\"{text}\"")?;
                }
                writeln!(f, "{} {value}", if labels.is_empty() { "" } else { "}" })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_family_stand_together_and_labels_cannot_leave_their_quotes() {
        let mut page = Page::default();
        page.gauge("a_bytes", "A.", &[("name", "x\"} 1\n\\")], 1_073_741_824.0);
        page.counter("b_total", "B.", &[], 0.5);
        page.gauge("a_bytes", "A.", &[("name", "y"), ("part", "0")], 2.0);
        assert_eq!(
            page.to_string(),
            "# HELP a_bytes A.\n# TYPE a_bytes gauge\na_bytes{name=\"x\\\"} 1\\n\\\\\"} 1073741824\na_bytes{name=\"y\",part=\"0\"} 2\n\
             # HELP b_total B.\n# TYPE b_total counter\nb_total 0.5\n"
        );
    }
}
