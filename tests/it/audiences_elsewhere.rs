//! Audiences in object stores: written there as one object, read from there, in every format; on both stores.

use crate::{either::Place, world::S3};

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {access_key_id: a, secret_access_key: b}\n";
const PERSON: &str = "    key: [id]
    fields:
    - {name: id, type: Integer}
    - {name: name, type: String}
    - {name: spent, type: Decimal, scale: 2}
    - {name: ratio, type: Double}
    - {name: is_vip, type: Boolean}
    - {name: born, type: Date}
    - {name: seen_at, type: Timestamp}
    source: {files: {url: SOURCE, format: FORMAT}}
";
const ROWS: &str = "id,name,spent,ratio,is_vip,born,seen_at
1,\"Zoë, \"\"Z\"\"\",-0.05,0.25,true,1969-12-31,2026-01-02T03:04:05.000006Z
2,,,,,,
3,Plain,1234567.10,-1e300,false,2000-02-29,1960-01-01T00:00:00Z
4,Left out,1.00,1,true,2000-01-01,2026-01-01T00:00:00Z
";

fn audience(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: campanile.dev/v1alpha1\nkind: Audience\nmetadata: {{name: {name}}}\nspec: {{dataset: town, entity: person, {spec}}}\n"
    )
}

fn condition(place: &Place, audience: &str, kind: &str) -> String {
    let mut args = vec!["get", "audience", audience, "-o", "json"];
    args.extend(place.url.iter().flat_map(|url| ["--store", url]));
    let object: serde_json::Value = serde_json::from_str(&place.home.call(&args).out).unwrap();
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|c| c["type"] == kind).cloned().unwrap_or_default();
    format!("{} {}", found["status"].as_str().unwrap_or(""), found["message"].as_str().unwrap_or(""))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_home_exports_another_reads_back_in_every_format() {
    let s3 = S3::start().await.unwrap();
    s3.put("shop", b"").unwrap();
    let endpoint = s3.endpoint();
    let allow = ["--allow-url", &*endpoint, "--now", "2026-03-01T09:00:00Z"];
    let reached = format!("endpoint: '{endpoint}', secretRef: {{name: login}}");
    for from in Place::both().await {
        let name = if from.url.is_some() { "postgres" } else { "sqlite" };
        from.declare(&PERSON.replace("SOURCE", "people.csv").replace("FORMAT", "CSV"));
        from.home.write("town/people.csv", ROWS);
        from.home.write("town/secret.yaml", SECRET);
        let formats = ["CSV", "JSONL", "Parquet"];
        let exports = formats.map(|format| {
            let url = format!("s3://shop/{name}/{}/all.{}", format.to_lowercase(), format.to_lowercase());
            let export = format!(
                "where: \"person.id < 4\", refresh: {{cron: '0 9 * * *', timeZone: UTC}}, export: {{url: '{url}', {reached}, format: {format}, \
                 fields: [id, name, spent, ratio, is_vip, born, seen_at]}}"
            );
            audience(&format!("as-{}", format.to_lowercase()), &export)
        });
        from.home.write("town/exports.yaml", &exports.concat());
        let ran = from.run(&allow);
        assert_eq!(ran.code, 0, "{ran:?} {}", condition(&from, "as-parquet", "Exported"));
        let select = "SELECT CAST(id AS TEXT) || '|' || COALESCE(name, '-') || '|' || COALESCE(CAST(spent AS TEXT), '-') || '|' || \
                      COALESCE(CAST(ratio < 0 AS TEXT), '-') || '|' || COALESCE(CAST(is_vip AS TEXT), '-') || '|' || \
                      COALESCE(CAST(born AS TEXT), '-') || '|' || COALESCE(CAST(seen_at AS TEXT), '-') FROM PERSON WHERE id < 4 ORDER BY id";
        let original = from.ask(select).await;
        for format in formats {
            for to in Place::both().await.into_iter().filter(|to| to.url.is_some() == from.url.is_some()) {
                let folder = format!("s3://shop/{name}/{}', {reached}, every: '1m", format.to_lowercase());
                to.declare(&PERSON.replace("SOURCE", &format!("'{folder}'")).replace("FORMAT", format));
                to.home.write("town/secret.yaml", SECRET);
                let object = format!("s3://shop/{name}/{0}/all.{0}", format.to_lowercase());
                to.home.write(
                    "town/import.yaml",
                    &audience("vip", &format!("import: {{url: '{object}', {reached}, key: id}}")),
                );
                let ran = to.run(&allow);
                assert_eq!(ran.code, 0, "{format}: {ran:?} {} {}", to.message(), condition(&to, "vip", "Ready"));
                assert_eq!(to.ask(select).await, original, "{format}");
                assert_eq!(condition(&to, "vip", "Ready"), "True imported as the file is");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_written_or_read_is_said() {
    let s3 = S3::start().await.unwrap();
    let endpoint = s3.endpoint();
    for place in Place::both().await {
        place.declare(&PERSON.replace("SOURCE", "people.csv").replace("FORMAT", "CSV"));
        place.home.write("town/people.csv", ROWS);
        place.home.write("town/secret.yaml", SECRET);
        let refresh = "where: \"true\", refresh: {cron: '0 9 * * *', timeZone: UTC}";
        let export = |url: &str, secret: &str| {
            format!(
                "{refresh}, export: {{url: '{url}', endpoint: '{endpoint}', secretRef: {{name: {secret}}}, format: Parquet}}"
            )
        };
        let exports = [
            audience("no-bucket", &export("s3://nowhere/x.parquet", "login")),
            audience("no-object", &export("s3://nowhere", "login")),
            audience("no-secret", &export("s3://nowhere/x.parquet", "other")),
            audience("web", &format!("{refresh}, export: {{url: '{endpoint}x.csv', format: CSV}}")),
            audience(
                "lost",
                &format!("import: {{url: 's3://nowhere/x.csv', endpoint: '{endpoint}', secretRef: {{name: login}}}}"),
            ),
        ];
        place.home.write("town/exports.yaml", &exports.concat());
        // That two of them cannot be written to is told by their text.
        assert_eq!(place.run(&["--allow-url", &endpoint, "--now", "2026-03-01T09:00:00Z"]).code, 2);
        let said = |name: &str| condition(&place, name, "Exported");
        assert_eq!(said("no-bucket"), "False `s3://nowhere/x.parquet`: it is not there");
        assert_eq!(said("no-object"), "False `s3://nowhere/` names a bucket and no object");
        assert_eq!(said("no-secret"), "False there is no Secret `other`");
        assert!(said("web").ends_with("files are written below the manifest, or to s3, gs or az"), "{}", said("web"));
        assert_eq!(condition(&place, "lost", "Ready"), "False there is no such bucket");
        // What is not encrypted, or inside, is not written to either, unless a flag says so.
        assert_eq!(place.run(&["--now", "2026-03-01T09:00:00Z"]).code, 2);
        assert!(said("no-bucket").contains("is not encrypted"), "{}", said("no-bucket"));
    }
}
