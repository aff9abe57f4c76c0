//! What tests came to: for a person, and as JUnit XML for a pipeline.
//!
//! GitLab shows a case by its `classname` and `name`, and of a failure its text; Jenkins shows the `message`, too. So the
//! classname is the test's file and name, which no two cases share, and the text says everything.

use std::{
    fmt::{self, Display, Formatter, Write},
    time::Duration,
};

use super::{Failure, Suite, Verdict};

impl Suite {
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|case| !case.failures.is_empty()).count()
    }
}

/// All suites, for a person to read.
pub struct Summary<'a>(pub &'a [Suite]);

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for suite in self.0 {
            let (word, many) = (if suite.failed() == 0 { "ok" } else { "FAILED" }, cases(suite.cases.len()));
            writeln!(f, "{word:6}  {} ({}): {many}", suite.name, suite.file.display())?;
            for case in suite.cases.iter().filter(|case| !case.failures.is_empty()) {
                writeln!(f, "        {}", case.name)?;
                case.failures.iter().try_for_each(|failure| put(failure, 10, f))?;
            }
        }
        let all: usize = self.0.iter().map(|suite| suite.cases.len()).sum();
        let failed: usize = self.0.iter().map(Suite::failed).sum();
        let took: Duration = self.0.iter().map(|suite| suite.took).sum();
        let tests = if self.0.len() == 1 { "1 test".to_owned() } else { format!("{} tests", self.0.len()) };
        let failed = if failed == 0 { "none failed".to_owned() } else { format!("{failed} failed") };
        writeln!(f, "{tests}, {}, {failed}, {:.1} s", cases(all), took.as_secs_f64())
    }
}

fn cases(n: usize) -> String {
    if n == 1 { "1 case".to_owned() } else { format!("{n} cases") }
}

fn put(failure: &Failure, indent: usize, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "{:indent$}{}", "", failure.message)?;
    let inner = indent + 2;
    for (word, text) in [("expected", &failure.expected), ("found", &failure.found), ("why", &failure.why)] {
        let Some(text) = text else { continue };
        match text.trim_end().split_once('\n') {
            None => writeln!(f, "{:inner$}{word}: {}", "", text.trim_end())?,
            Some(_) => {
                writeln!(f, "{:inner$}{word}:", "")?;
                for line in text.trim_end().lines() {
                    writeln!(f, "{}", format!("{:width$}{line}", "", width = inner + 2).trim_end())?;
                }
            }
        }
    }
    Ok(())
}

/// All suites as JUnit XML.
pub fn junit(suites: &[Suite]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all: usize = suites.iter().map(|suite| suite.cases.len()).sum();
    let failed: usize = suites.iter().map(Suite::failed).sum();
    let took: Duration = suites.iter().map(|suite| suite.took).sum();
    // Writing to a text cannot fail.
    let _ = writeln!(
        out,
        "<testsuites name=\"campanile test\" tests=\"{all}\" failures=\"{failed}\" errors=\"0\" time=\"{}\">",
        seconds(took)
    );
    for suite in suites {
        let (name, file) = (escaped(&suite.name), escaped(&suite.file.display().to_string()));
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" time=\"{}\">",
            suite.cases.len(),
            suite.failed(),
            seconds(suite.took)
        );
        suite.cases.iter().for_each(|case| put_case(case, &name, &file, &mut out));
        out += "  </testsuite>\n";
    }
    out += "</testsuites>\n";
    out
}

fn put_case(case: &Verdict, suite: &str, file: &str, out: &mut String) {
    let _ = write!(
        out,
        "    <testcase name=\"{}\" classname=\"{file}:{suite}\" file=\"{file}\" time=\"{}\"",
        escaped(&case.name),
        seconds(case.took)
    );
    let Some(first) = case.failures.first() else {
        *out += "/>\n";
        return;
    };
    // One element: readers take the first.
    let text: String = case.failures.iter().map(|failure| Said(failure).to_string()).collect();
    let _ = writeln!(
        out,
        ">\n      <failure message=\"{}\" type=\"expectation\">{}</failure>\n    </testcase>",
        escaped(&first.message),
        escaped(&text)
    );
}

struct Said<'a>(&'a Failure);

impl Display for Said<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        put(self.0, 0, f)
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.3}", took.as_secs_f64())
}

/// Text as XML 1.0 has it; what it has no place for is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites() -> Vec<Suite> {
        let failure = Failure {
            message: "step `who`: person <7> is not in it".to_owned(),
            expected: Some("in".to_owned()),
            found: None,
            why: Some("a & b\n  c\u{1b}\n".to_owned()),
        };
        let case = |name: &str, failures: Vec<Failure>| Verdict {
            name: name.to_owned(),
            failures,
            took: Duration::from_millis(12),
        };
        vec![Suite {
            file: "shop/a.test.yaml".into(),
            name: "reminders".to_owned(),
            cases: vec![case("who \"waits\"", vec![]), case("who goes", vec![failure])],
            took: Duration::from_millis(30),
        }]
    }

    #[test]
    fn a_pipeline_reads_junit_and_a_person_text() {
        insta::assert_snapshot!(format!("{}\n{}", junit(&suites()), Summary(&suites())));
    }
}
