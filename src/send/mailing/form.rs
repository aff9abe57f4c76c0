//! What a file of letters looks like: its columns, its format, its name, and what its manifest says.

use jiff::Timestamp;
use serde_json::json;

use crate::{
    api::{
        access::Access,
        channel::{Compression, MailFile, MailFormat, Way},
        template::MessageTemplateSpec,
    },
    files::table::Layout,
    send::letter::Letter,
    store::campaign::Run,
};

/// A file as its channel and its template declare it.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub columns: Vec<String>,
    pub layout: Layout,
    pub compression: Compression,
    pub rows_max: Option<u64>,
    /// Rows of the sender's own.
    pub seeds: Vec<Vec<String>>,
    /// What the files' names end in.
    extension: String,
    file: MailFile,
}

/// One file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// What its name ends in.
    pub suffix: String,
    pub rows: u64,
    /// Of these rows, the last ones.
    pub seeds: u64,
    pub bytes: u64,
    pub sha256: String,
}

impl Form {
    pub fn new(template: &MessageTemplateSpec, file: &MailFile) -> Self {
        let columns: Vec<_> = template.direct_mail.iter().flat_map(|mail| &mail.columns).collect();
        let seed = |seed: &crate::api::channel::Seed| {
            columns.iter().map(|column| seed.values.get(&column.name).cloned().unwrap_or_default()).collect()
        };
        let layout = match file.format {
            MailFormat::CSV => Layout::Csv(file.delimiter.byte()),
            MailFormat::JSONL => Layout::Jsonl,
            MailFormat::Parquet => Layout::Parquet,
            // Without a width nothing fits; a campaign that says none is none.
            MailFormat::FixedWidth => {
                Layout::Fixed(columns.iter().map(|column| column.width.map_or(0, usize::from)).collect())
            }
        };
        Self {
            layout,
            compression: file.compression,
            rows_max: file.rows_max.map(u64::from),
            seeds: file.seeds.iter().map(seed).collect(),
            extension: file.extension(),
            file: file.clone(),
            columns: columns.iter().map(|column| column.name.clone()).collect(),
        }
    }

    pub fn url(&self) -> &str {
        self.file.url.trim_end_matches('/')
    }

    pub fn access(&self) -> &Access {
        &self.file.access
    }

    /// A file's name, without what its format adds.
    pub fn name(&self, run: &Run, step: &str) -> String {
        let names = [("namespace", &*run.namespace), ("campaign", &*run.campaign), ("run", &*run.name), ("step", step)];
        self.file.named(&names)
    }

    /// What the name of the file of a number, from 0, ends in.
    pub fn suffix(&self, number: usize) -> String {
        let part = self.rows_max.map_or(String::new(), |_| format!("-{}", number + 1));
        format!("{part}{}", self.extension)
    }

    fn widths(&self) -> Option<&[usize]> {
        if let Layout::Fixed(widths) = &self.layout { Some(widths) } else { None }
    }

    /// What the manifest says: the same, however often the files are written.
    pub fn manifest(
        &self,
        id: &str,
        (run, step): (&Run, &str),
        shown: &str,
        sealed: Timestamp,
        made: &[Made],
    ) -> Vec<u8> {
        let columns: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, name)| match self.widths().and_then(|widths| widths.get(index)) {
                Some(width) => json!({"name": name, "width": width}),
                None => json!({"name": name}),
            })
            .collect();
        let files: Vec<_> = made
            .iter()
            .map(|file| {
                json!({
                    "name": format!("{shown}{}", file.suffix), "rows": file.rows, "seeds": file.seeds,
                    "bytes": file.bytes, "sha256": file.sha256,
                })
            })
            .collect();
        let all = json!({
            "id": id, "namespace": run.namespace, "campaign": run.campaign, "run": run.name, "step": step,
            "sealedAt": sealed.to_string(), "format": self.file.format.word(), "compression": self.compression.word(),
            "columns": columns, "rows": made.iter().map(|file| file.rows).sum::<u64>(),
            "seeds": made.iter().map(|file| file.seeds).sum::<u64>(), "files": files,
        });
        let mut bytes = serde_json::to_vec_pretty(&all).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// How the messages of a step are written where they make a file together.
#[derive(Clone, Debug)]
pub struct Sheet {
    form: Form,
}

impl Sheet {
    /// None where each message goes its own way.
    pub fn of(letter: &Letter) -> Option<Self> {
        let (bundle, sending) = (&letter.pinned.0, letter.sending().ok()?);
        let Way::MailFile(file) = bundle.channels.get(&sending.channel)?.way() else { return None };
        Some(Self { form: Form::new(bundle.templates.get(&sending.template_name)?, file) })
    }

    /// A row as it is kept.
    ///
    /// # Errors
    /// Which column's value does not fit, without the value.
    pub fn cells(&self, values: &[(String, String)]) -> Result<String, String> {
        for (width, (name, value)) in self.form.widths().into_iter().flatten().zip(values) {
            if let Some(problem) = misfit(value, *width) {
                return Err(format!("column `{name}` {problem}"));
            }
        }
        let cells: Vec<&str> = values.iter().map(|(_, value)| value.as_str()).collect();
        serde_json::to_string(&cells).map_err(|error| error.to_string())
    }
}

/// Why a value cannot stand in a column of a fixed width. Cut, it would be another street.
pub fn misfit(value: &str, width: usize) -> Option<String> {
    let length = value.chars().count();
    if length > width {
        return Some(format!("has {length} characters, and its width is {width}"));
    }
    value.contains(char::is_control).then(|| "has a line break or another control character".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_without_the_value() {
        assert_eq!(misfit("Zoë", 3), None);
        assert_eq!(misfit("Zoë B", 4).as_deref(), Some("has 5 characters, and its width is 4"));
        assert_eq!(misfit("a\nb", 9).as_deref(), Some("has a line break or another control character"));
    }
}
