//! `campanile schema [KIND]`: JSON Schemas for editors.

use std::{fs, io::Write, path::PathBuf};

use clap::Args as ClapArgs;
use serde_json::Value;

use super::End;
use crate::{api::editor, rule::nearest};

#[derive(ClapArgs)]
pub struct Args {
    /// One kind, such as Campaign; without it one schema for all of them.
    kind: Option<String>,
    /// Write a file for each kind and one for all of them (`campanile.json`) into this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "kind")]
    out: Option<PathBuf>,
}

pub fn run(args: &Args) -> End {
    let schemas = editor::schemas();
    if let Some(folder) = &args.out {
        let files = schemas.into_iter().map(|(kind, schema)| (format!("{}.json", kind.to_lowercase()), schema));
        for (name, schema) in files.chain([("campanile.json".to_owned(), editor::all())]) {
            let path = folder.join(name);
            let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text(&schema)));
            if let Err(error) = written {
                return End::Wrong(format!("{}: {error}", path.display()), None);
            }
        }
        return End::Done;
    }
    let schema = match &args.kind {
        None => editor::all(),
        Some(name) => match schemas.iter().find(|(kind, _)| kind.eq_ignore_ascii_case(name)) {
            Some((_, schema)) => schema.clone(),
            None => {
                let near = nearest(name, schemas.iter().map(|(kind, _)| kind.as_str()));
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                return End::Wrong(format!("there is no kind `{name}`"), hint);
            }
        },
    };
    match std::io::stdout().write_all(text(&schema).as_bytes()) {
        Ok(()) => End::Done,
        Err(error) => End::Wrong(error.to_string(), None),
    }
}

fn text(schema: &Value) -> String {
    format!("{schema:#}\n")
}
