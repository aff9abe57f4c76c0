//! What a file says: changes with deletes, in whatever order they arrive; snapshots, of which none deletes half the base.

use std::time::Duration;

use crate::{either::Place, home::PATIENCE, world::until_true};

const HEAD: &str = "id,name,seen,_change_request_type\n";

fn declare(place: &Place, version: &str, files: &str) {
    let entity = format!(
        "    key: [id]\n{version}    fields:\n    - {{name: id, type: Integer}}\n    - {{name: name, type: String, required: true}}\n    \
         - {{name: seen, type: Integer}}\n    source: {{files: {{url: data, format: CSV{files}}}}}\n"
    );
    place.declare(&entity);
}

const VERSION: &str = "    version: seen\n";

#[tokio::test]
async fn a_delete_leaves_a_tombstone_that_an_older_upsert_does_not_pass() {
    for place in Place::both().await {
        declare(&place, VERSION, "");
        place.home.write("town/data/3.csv", &format!("{HEAD}1,Ann,10,u\n2,Bob,10,u\n3,Cid,10,\n"));
        place.read();
        // Of a row that is deleted its key and its version say enough; without a version it is the one that stands.
        place.home.write("town/data/4.csv", &format!("{HEAD}1,,20,d\n2,,,d\n"));
        place.read();
        assert_eq!(place.people().await, ["3 Cid"]);
        // Older, and equal under an earlier name: neither comes back, whenever they arrive.
        place.home.write("town/data/1.csv", &format!("{HEAD}1,Ann,15,u\n2,Bob,9,u\n3,Old,9,u\n"));
        place.home.write("town/data/2.csv", &format!("{HEAD}1,Ann,20,u\n2,Bob,10,u\n3,Equal,10,u\n"));
        place.read();
        assert_eq!(place.people().await, ["3 Cid"]);
        // Equal under a later name, and newer: both do.
        place.home.write("town/data/5.csv", &format!("{HEAD}1,Ann again,20,u\n2,Bob again,11,u\n3,Later,10,u\n"));
        place.read();
        assert_eq!(place.people().await, ["1 Ann again", "2 Bob again", "3 Later"]);
        // A late delete that is older than the row deletes nothing.
        place.home.write("town/data/6.csv", &format!("{HEAD}1,,19,d\n"));
        place.read();
        assert_eq!(place.people().await.len(), 3);
    }
}

#[tokio::test]
async fn of_several_rows_of_one_key_in_a_file_the_highest_version_counts_then_the_last() {
    for place in Place::both().await {
        declare(&place, VERSION, "");
        // The first file of an empty table: it is loaded directly, until a key comes twice.
        place.home.write("town/data/1.csv", "id,name,seen\n1,old,1\n1,new,3\n1,middle,2\n2,first,5\n2,last,5\n");
        place.read();
        assert_eq!(place.people().await, ["1 new", "2 last"]);
        place
            .home
            .write("town/data/2.csv", &format!("{HEAD}1,newer,4,u\n1,,,d\n2,,9,d\n2,back,9,u\n3,short,1,u\n3,,1,d\n"));
        place.read();
        assert_eq!(place.people().await, ["2 back"]);
    }
}

#[tokio::test]
async fn without_a_version_what_arrives_later_counts() {
    for place in Place::both().await {
        declare(&place, "", "");
        place.home.write("town/data/1.csv", &format!("{HEAD}1,Ann,,u\n2,Bob,,u\n2,,,d\n3,Cid,,x\n"));
        place.read();
        assert_eq!(place.people().await, ["1 Ann"]);
        let reasons = place.ask("SELECT CAST(line AS TEXT) || ' ' || reason FROM reject").await;
        assert_eq!(reasons, ["5 _change_request_type: neither u nor d"]);
        place.home.write("town/data/2.csv", &format!("{HEAD}1,,,d\n2,Bob,,u\n"));
        place.read();
        assert_eq!(place.people().await, ["2 Bob"]);
    }
}

fn snapshot(ids: impl Iterator<Item = usize>) -> String {
    "id,name,seen\n".chars().chain(ids.flat_map(|id| format!("{id},P{id},1\n").chars().collect::<Vec<_>>())).collect()
}

#[tokio::test]
async fn a_snapshot_deletes_what_is_absent_and_never_half_the_base() {
    for place in Place::both().await {
        declare(&place, "", ", contents: Snapshot");
        place.home.write("town/data/1.csv", &snapshot(1..=100));
        place.read();
        place.home.write("town/data/2.csv", &snapshot(3..=101));
        place.read();
        let people = place.people().await;
        assert_eq!((people.len(), &*people[0]), (99, "3 P3"));
        // Cut in the middle, and what came before it is not read again.
        place.home.write("town/data/3.csv", &snapshot(3..=50));
        assert_eq!(place.run(&[]).code, 1);
        assert_eq!(place.people().await, people);
        let wanted = "FileRefused: data/3.csv: it would delete 51 of 99 rows, more than maxDeletes 2%; is it complete?";
        assert_eq!(place.message(), wanted);
        // A person who means it says so, and the same file is looked at again.
        declare(&place, "", ", contents: Snapshot, maxDeletes: 60");
        place.read();
        assert_eq!(place.people().await.len(), 48);
        place.home.write("town/data/0.csv", &snapshot(1..=100));
        place.read();
        assert_eq!(place.people().await.len(), 48);
        let notes = place.ask("SELECT note FROM file WHERE path = 'data/0.csv'").await;
        assert_eq!(notes, ["not read: data/3.csv is a later snapshot"]);
    }
}

#[tokio::test]
async fn a_snapshot_in_parts_counts_once_its_marker_stands_there() {
    for place in Place::both().await {
        declare(&place, VERSION, ", contents: Snapshot, completeWhen: \"*.done\"");
        place.home.write("town/data/day1-a.csv", &snapshot(1..=60));
        place.home.write("town/data/day1-b.csv", &snapshot(61..=100));
        place.read();
        assert_eq!(place.message(), "Loaded: every file is in; 2 wait for what completes them");
        assert!(place.people().await.is_empty());
        place.home.write("town/data/day1.done", "");
        place.read();
        assert_eq!(place.people().await.len(), 100);
        // Half of the next one.
        place.home.write("town/data/day2-a.csv", &snapshot(2..=60));
        place.read();
        assert_eq!(place.people().await.len(), 100);
        place.home.write("town/data/day2-b.csv", &snapshot(61..=102));
        place.home.write("town/data/day2.done", "");
        place.read();
        let people = place.people().await;
        assert_eq!((people.len(), &*people[0], &*people[100]), (101, "2 P2", "102 P102"));
    }
}

#[tokio::test]
async fn a_killed_reader_leaves_nothing_and_the_file_counts_once() {
    for place in Place::both().await {
        declare(&place, "", "");
        place.home.write("town/data/1.csv", &snapshot(1..=200_000));
        for turn in 0..3 {
            let log = format!("log-{turn}");
            let mut running = place.spawn(&log);
            until_true("the file to be read", PATIENCE, || place.home.read(&log).contains("reads")).await.unwrap();
            // Somewhere in the middle of it, later each time.
            tokio::time::sleep(Duration::from_millis(turn * 40)).await;
            running.child.kill().unwrap();
            running.child.wait().unwrap();
        }
        place.read();
        assert_eq!(place.ask("SELECT CAST(count(*) AS TEXT) FROM PERSON").await, ["200000"]);
        assert_eq!(place.ask("SELECT CAST(count(*) AS TEXT) || ' ' || max(row_count) FROM file").await, ["1 200000"]);
    }
}
