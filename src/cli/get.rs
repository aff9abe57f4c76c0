//! `campanile get KIND [NAME]`: the same objects, columns and JSON as `kubectl get`, from the store of a folder.

use clap::{Args as ClapArgs, ValueEnum};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition,
};
use serde_json::{Map, Value, json};

use super::{
    End,
    home::{Home, StoreArgs},
    table::Table,
};
use crate::{
    api::{GROUP, VERSION, crd, template::kept},
    clock::Clock,
    rule::nearest,
    source::Kind,
    store::object::Stored,
};

#[derive(ClapArgs)]
pub struct Args {
    /// The kind: its name, plural, or short name; or `indoubt`, the messages whose fate nobody knows.
    kind: String,
    name: Option<String>,
    #[command(flatten)]
    home: StoreArgs,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Wide,
    Yaml,
    Json,
    Name,
}

pub async fn run(args: Args) -> End {
    match show(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn show(args: Args) -> Result<End, End> {
    let crds = crd::all();
    let wanted = args.kind.to_lowercase();
    if wanted == "indoubt" {
        let home = Home::open(&args.home, false).await?;
        let is_json = args.output == Some(Output::Json);
        return super::doubt::list(&home, &args.namespace, args.name.as_deref(), is_json).await;
    }
    let Some(definition) = crds.iter().find(|c| names_of(c).contains(&wanted)) else {
        let known: Vec<String> = crds.iter().map(|c| c.spec.names.plural.clone()).collect();
        let near = nearest(&wanted, known.iter().map(String::as_str));
        let hint =
            near.map_or_else(|| format!("one of {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
        return Err(End::Wrong(format!("there is no kind `{}`", args.kind), Some(hint)));
    };
    let kind = &definition.spec.names.kind;
    let home = Home::open(&args.home, false).await?;
    let all = home.store.objects().await?;
    let found: Vec<&Stored> = all
        .iter()
        .filter(|o| o.kind == *kind && (args.all_namespaces || o.namespace == args.namespace))
        .filter(|o| args.name.as_ref().is_none_or(|name| *name == o.name))
        .collect();
    if found.is_empty() {
        if let Some(name) = &args.name {
            eprintln!("Error from server (NotFound): {}.{GROUP} \"{name}\" not found", definition.spec.names.plural);
            return Ok(End::Failed);
        }
        // Programs are told by an empty list, as kubectl tells them.
        if !matches!(args.output, Some(Output::Json | Output::Yaml)) {
            eprintln!("No resources found in {} namespace.", args.namespace);
            return Ok(End::Done);
        }
    }
    print(&args, definition, &found);
    Ok(End::Done)
}

fn names_of(definition: &CustomResourceDefinition) -> Vec<String> {
    let names = &definition.spec.names;
    let singular = names.singular.clone().unwrap_or_else(|| names.kind.to_lowercase());
    let full = format!("{}.{GROUP}", names.plural);
    [names.plural.clone(), singular, full].into_iter().chain(names.short_names.clone().unwrap_or_default()).collect()
}

fn print(args: &Args, definition: &CustomResourceDefinition, found: &[&Stored]) {
    let objects = || found.iter().map(|o| json_of(o)).collect::<Vec<_>>();
    let whole = || match args.name {
        Some(_) => objects().into_iter().next().unwrap_or_default(),
        None => json!({"apiVersion": "v1", "items": objects(), "kind": "List", "metadata": {"resourceVersion": ""}}),
    };
    match args.output {
        Some(Output::Json) => println!("{}", serde_json::to_string_pretty(&whole()).unwrap_or_default()),
        Some(Output::Yaml) => print!("{}", serde_yaml::to_string(&whole()).unwrap_or_default()),
        Some(Output::Name) => {
            let singular = definition.spec.names.singular.clone().unwrap_or_default();
            found.iter().for_each(|o| println!("{singular}.{GROUP}/{}", o.name));
        }
        None | Some(Output::Wide) => print!("{}", columns(args, definition, found)),
    }
}

fn columns(args: &Args, definition: &CustomResourceDefinition, found: &[&Stored]) -> Table {
    let is_wide = args.output == Some(Output::Wide);
    let declared =
        definition.spec.versions.first().and_then(|v| v.additional_printer_columns.clone()).unwrap_or_default();
    let shown: Vec<&CustomResourceColumnDefinition> =
        declared.iter().filter(|c| is_wide || c.priority.unwrap_or(0) == 0).collect();
    let mut head: Vec<String> = vec!["NAME".to_owned()];
    if args.all_namespaces {
        head.insert(0, "NAMESPACE".to_owned());
    }
    head.extend(shown.iter().map(|c| c.name.to_uppercase()));
    let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    let now = Clock::system().now();
    for object in found {
        let json = json_of(object);
        let mut row = vec![object.name.clone()];
        if args.all_namespaces {
            row.insert(0, object.namespace.clone());
        }
        row.extend(shown.iter().map(|c| cell(&json, c, now)));
        table.row(row);
    }
    table
}

fn cell(object: &Value, column: &CustomResourceColumnDefinition, now: Timestamp) -> String {
    match path(object, &column.json_path) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) if column.type_ == "date" => text
            .parse::<Timestamp>()
            .map_or_else(|_| "<invalid>".to_owned(), |at| age(now.duration_since(at).as_secs())),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The JSONPath that our printer columns use: names, and one filter by equality.
fn path<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = object;
    let mut rest = path.trim_start_matches('.');
    while !rest.is_empty() {
        if let Some(filter) = rest.strip_prefix("[?(@.") {
            let (test, after) = filter.split_once(")]")?;
            let (name, wanted) = test.split_once("==")?;
            value = value.as_array()?.iter().find(|item| item[name] == wanted.trim_matches('"'))?;
            rest = after.trim_start_matches('.');
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            value = value.get(&rest[..end])?;
            rest = rest[end..].trim_start_matches('.');
        }
    }
    Some(value)
}

/// As kubectl shortens it (apimachinery's `HumanDuration`).
fn age(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        s if s < 0 => "0s".to_owned(),
        s if s < 120 => format!("{s}s"),
        s if s < 600 && s % 60 != 0 => format!("{minutes}m{}s", s % 60),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 && minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 && hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        _ if days < 730 => format!("{days}d"),
        _ => format!("{}y", days / 365),
    }
}

/// The object as an API server would hand it over.
fn json_of(object: &Stored) -> Value {
    let mut metadata = Map::new();
    let mut spec = object.spec.clone();
    if object.kind == Kind::MessageTemplate.as_str() {
        kept::declared(&mut spec);
    }
    add(&mut metadata, "annotations", object.meta["annotations"].clone());
    metadata.insert("creationTimestamp".to_owned(), json!(object.created.to_string()));
    add(&mut metadata, "finalizers", object.meta["finalizers"].clone());
    metadata.insert("generation".to_owned(), json!(object.generation));
    add(&mut metadata, "labels", object.meta["labels"].clone());
    metadata.insert("name".to_owned(), json!(object.name));
    metadata.insert("namespace".to_owned(), json!(object.namespace));
    add(&mut metadata, "ownerReferences", object.meta["ownerReferences"].clone());
    metadata.insert("resourceVersion".to_owned(), json!(object.version.to_string()));
    metadata.insert("uid".to_owned(), json!(object.uid));
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": object.kind,
        "metadata": metadata,
        "spec": spec,
        "status": object.status,
    })
}

fn add(map: &mut Map<String, Value>, name: &str, value: Value) {
    if !value.is_null() {
        map.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_kubectls() {
        let seconds =
            [0, 119, 120, 125, 600, 10_799, 10_800, 28_700, 28_800, 172_799, 172_800, 180_000, 691_200, 63_072_000];
        let shown: Vec<String> = seconds.into_iter().map(age).collect();
        assert_eq!(
            shown,
            ["0s", "119s", "2m", "2m5s", "10m", "179m", "3h", "7h58m", "8h", "47h", "2d", "2d2h", "8d", "2y"]
        );
    }

    #[test]
    fn paths_find_conditions() {
        let object =
            json!({"status": {"conditions": [{"type": "A", "status": "x"}, {"type": "Ready", "status": "True"}]}});
        assert_eq!(path(&object, ".status.conditions[?(@.type==\"Ready\")].status"), Some(&json!("True")));
        assert_eq!(path(&object, ".status.totals.sent"), None);
    }
}
