//! The same rows from every format and compression; what is wrong with a file is said by line and reason, never by value.

use std::{fs::File, io::Write, path::Path, sync::Arc};

use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

use crate::either::Place;

const FIELDS: &str = "    key: [id]\n    fields:\n    - {name: id, type: Integer}\n    - {name: name, type: String}\n    \
                      - {name: paid, type: Decimal, precision: 8, scale: 2}\n    - {name: score, type: Double}\n    \
                      - {name: news, type: Boolean}\n    - {name: born, type: Date}\n    - {name: seen, type: Timestamp}\n";
const CSV: &str = "seen,born,news,score,paid,name,id,more\n\
                   2026-03-01T10:00:00+02:00,2000-02-29,t,1.5,-12.50,\"O'Neil, \"\"Ann\"\"\nof Rome\",1,x\n\
                   ,,,,,,2,y\n";
const JSONL: &str = "{\"id\": 1, \"name\": \"O'Neil, \\\"Ann\\\"\\nof Rome\", \"paid\": -12.50, \"score\": 1.5, \"news\": true, \
                     \"born\": \"2000-02-29\", \"seen\": \"2026-03-01T08:00:00Z\", \"more\": {\"a\": [1]}}\r\n\n{\"name\": null, \"id\": 2}";

fn declare(place: &Place, more: &str) {
    place.declare(&format!("{FIELDS}    source: {{files: {{url: data, {more}}}}}\n"));
}

/// What stands there, as text that both stores write alike.
async fn rows(place: &Place) -> Vec<String> {
    let (paid, seen) = match place.url {
        Some(_) => {
            ("CAST(CAST(paid * 100 AS BIGINT) AS TEXT)", "CAST(CAST(extract(epoch FROM seen) AS BIGINT) AS TEXT)")
        }
        None => ("CAST(paid AS TEXT)", "CAST(seen / 1000000 AS TEXT)"),
    };
    let news = "CASE WHEN news THEN 'yes' WHEN NOT news THEN 'no' END";
    let all = ["name", paid, "CAST(score AS TEXT)", news, "CAST(born AS TEXT)", seen];
    let all: Vec<String> = all.iter().map(|column| format!("COALESCE({column}, '-')")).collect();
    place.ask(&format!("SELECT id || '|' || {} FROM PERSON ORDER BY id", all.join(" || '|' || "))).await
}

fn wanted() -> Vec<String> {
    ["1|O'Neil, \"Ann\"\nof Rome|-1250|1.5|yes|2000-02-29|1772352000", "2|-|-|-|-|-|-"].map(str::to_owned).to_vec()
}

fn write_parquet(path: &Path, compression: Compression) {
    let schema = "message person { required int64 id; optional binary name (UTF8); optional int32 paid (DECIMAL(8, 2)); \
                  optional double score; optional boolean news; optional int32 born (DATE); \
                  optional int64 seen (TIMESTAMP(MICROS, true)); optional group more { optional int32 a; } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    macro_rules! column {
        ($type:ty, $values:expr, $levels:expr) => {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<$type>().write_batch($values, $levels, None).unwrap();
            column.close().unwrap();
        };
    }
    let once: Option<&[i16]> = Some(&[1, 0]);
    column!(Int64Type, &[1, 2], None);
    column!(ByteArrayType, &[ByteArray::from("O'Neil, \"Ann\"\nof Rome")], once);
    column!(Int32Type, &[-1250], once);
    column!(DoubleType, &[1.5], once);
    column!(BoolType, &[true], once);
    column!(Int32Type, &[11_016], once);
    column!(Int64Type, &[1_772_352_000_000_000], once);
    column!(Int32Type, &[7], Some(&[2, 0]));
    group.close().unwrap();
    writer.close().unwrap();
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn every_format_and_compression_says_the_same() {
    for place in Place::both().await {
        let folder = place.home.path().join("town/data");
        std::fs::create_dir_all(&folder).unwrap();
        let files: [(&str, &str, Vec<u8>); 7] = [
            ("CSV", "a.csv", CSV.into()),
            ("CSV", "a.csv", format!("\u{feff}{CSV}").replace('\n', "\r\n").replace("\"\r\nof", "\"\nof").into()),
            ("CSV", "a.csv.gz", [gzip(CSV.split_at(60).0), gzip(CSV.split_at(60).1)].concat()),
            ("CSV", "a.csv.zst", zstd::encode_all(CSV.as_bytes(), 3).unwrap()),
            ("JSONL", "a.jsonl", JSONL.into()),
            ("JSONL", "a.ndjson.gz", gzip(JSONL)),
            ("JSONL", "a.jsonl.zst", zstd::encode_all(JSONL.as_bytes(), 3).unwrap()),
        ];
        let empty = |place: &Place| {
            std::fs::remove_dir_all(&folder).unwrap();
            declare(place, "format: CSV, contents: Snapshot, maxDeletes: 100%");
            place.home.deliver("town/data/none.csv", CSV.lines().next().unwrap().as_bytes());
            place.read();
        };
        for (index, (format, name, bytes)) in files.into_iter().enumerate() {
            declare(&place, &format!("format: {format}"));
            place.home.deliver(&format!("town/data/{name}"), &bytes);
            place.read();
            assert_eq!(rows(&place).await, wanted(), "{index} {name}");
            empty(&place);
            assert!(rows(&place).await.is_empty());
        }
        let levels = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::ZSTD(ZstdLevel::default()),
            Compression::GZIP(Default::default()),
        ];
        for compression in levels {
            declare(&place, "format: Parquet");
            write_parquet(&folder.join("a.parquet"), compression);
            place.read();
            assert_eq!(rows(&place).await, wanted(), "{compression:?}");
            empty(&place);
        }
    }
}

#[tokio::test]
async fn bad_rows_are_rejects_in_every_format() {
    for place in Place::both().await {
        declare(&place, "format: CSV");
        let good = ",,,,,,";
        let mut csv = b"seen,born,news,score,paid,name,id\n".to_vec();
        csv.extend_from_slice(format!("{good}1\n").as_bytes());
        csv.extend_from_slice(
            b",,,,,nul \0 secret,2\n,,,,,\xff\xfe secret,3\n,,,,1.234,,4\n,2001-02-29,,,,,5\n,,,inf,,,6\n",
        );
        csv.extend_from_slice(format!(",,,,,{},7\n", "x".repeat(1024 * 1024 + 1)).as_bytes());
        csv.extend_from_slice(format!("{good}\n{good}8,9\n{good}9\n").as_bytes());
        place.home.deliver("town/data/a.csv", &csv);
        place.read();
        let rejects = "SELECT line || ' ' || reason FROM reject ORDER BY line";
        let wanted = [
            "3 name: holds a NUL",
            "4 name: not UTF-8",
            "5 paid: a Decimal with more digits behind the point than its scale",
            "6 born: not a Date",
            "7 score: not a Double",
            "8 name: longer than 1 MiB",
            "9 id: required, and missing",
            "10 8 fields where the header has 7",
        ];
        assert_eq!(place.ask(rejects).await, wanted);
        assert_eq!(place.ask("SELECT CAST(id AS TEXT) FROM PERSON ORDER BY id").await, ["1", "9"]);
        std::fs::remove_file(place.home.path().join("town/data/a.csv")).unwrap();
        declare(&place, "format: JSONL");
        let jsonl = "{\"id\": 21}\n{\"id\": 22\nsecret\n[1]\n{\"id\": \"x\"}\n{\"id\": 26, \"name\": 5}\n{\"id\": 27, \"born\": {}}\n\
                     {\"id\": 28, \"name\": \"nul \\u0000\"}\n{\"id\": 1.5}\n";
        place.home.deliver("town/data/a.jsonl", jsonl.as_bytes());
        place.read();
        let wanted = [
            "2 not a JSON object",
            "3 not a JSON object",
            "4 not a JSON object",
            "5 id: not an Integer",
            "6 name: a number or a Boolean, not a String",
            "7 born: an object or a list",
            "8 name: holds a NUL",
            "9 id: not an Integer",
        ];
        let rejects = "SELECT line || ' ' || reason FROM reject WHERE path = 'data/a.jsonl' ORDER BY line";
        assert_eq!(place.ask(rejects).await, wanted);
        assert!(!place.status().to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_file_that_is_wrong_as_a_whole_is_refused_and_says_why() {
    for place in Place::both().await {
        let cut = gzip(&format!("{CSV}{}", ",,,,,,3,\n".repeat(100_000)));
        let endless = format!("seen,born,news,score,paid,name,id\n,,,,,\"never closed,1\n{}", "x\n".repeat(9 << 20));
        let files: [(&str, &str, Vec<u8>, &str); 9] = [
            (
                "CSV",
                "a.csv",
                b"id,name\n1,a\n".to_vec(),
                "line 1: the header has no column paid, score, news, born, seen",
            ),
            ("CSV", "b.csv", b"id,id\n".to_vec(), "line 1: the header names column `id` twice"),
            ("CSV", "c.csv", vec![], "line 1: the header is missing"),
            ("CSV", "d.csv", b"\xff\xfei\0d\0".to_vec(), "line 1: not UTF-8 but UTF-16"),
            ("CSV", "e.csv.gz", cut[..cut.len() / 2].to_vec(), "the file is damaged or cut"),
            ("CSV", "f.csv", endless.into_bytes(), "line 2: a row longer than 16 MiB; is a quote never closed?"),
            ("JSONL", "g.jsonl", vec![b'x'; 20 << 20], "line 1: longer than 16 MiB"),
            ("Parquet", "h.parquet", b"PAR1 or not".to_vec(), "not a Parquet file, or a damaged one"),
            (
                "CSV",
                "i.csv.zst",
                zstd::encode_all(CSV.as_bytes(), 3).unwrap()[..60].to_vec(),
                "the file is damaged or cut",
            ),
        ];
        for (format, name, bytes, why) in files {
            declare(&place, &format!("format: {format}"));
            place.home.deliver(&format!("town/data/{name}"), &bytes);
            assert_eq!(place.run(&[]).code, 1, "{name}");
            assert_eq!(place.message(), format!("FileRefused: data/{name}: {why}"));
            assert!(place.people().await.is_empty(), "{name}");
            std::fs::remove_file(place.home.path().join("town/data").join(name)).unwrap();
        }
    }
}
