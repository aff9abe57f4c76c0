//! Sets over the film rental shop, key by key against SQL written by hand.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use sqlx::Row;

use super::{Shop, by_hand, film_rental, sakila, step};

const CAMPAIGN: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: sets}
spec:
  dataset: rental-shop
  topic: rental-reminders
  schedule: {immediate: {}}
  steps:
  - name: out
    unused: true
    audience: {entity: rental, where: "!has(rental.return_date)", rest: back}
  - name: newest
    deduplicate: {by: [customer_id], keep: {last: rental_date}, rest: older}
  - name: preferred
    unused: true
    from: out
    deduplicate: {by: [rental.inventory.store_id], count: 7, keep: {prefer: {field: rental.inventory.film.rating, values: [NC-17, R]}}}
  - name: drawn
    unused: true
    from: out
    deduplicate: {by: [rental.inventory.store_id], count: 10, keep: {random: {seed: spring}}}
  - name: tiers
    unused: true
    from: out
    split:
      branches:
      - {name: long, where: "rental.inventory.film.length > 120", atMost: 10%, keep: {first: rental_date}}
      - {name: some, atMost: 20, keep: {random: {seed: tiers}}}
      - {name: pg, where: 'rental.inventory.film.rating == "PG"'}
      rest: others
  - name: both
    unused: true
    from: out
    split:
      overlap: true
      branches:
      - {name: long, where: "rental.inventory.film.length > 120"}
      - {name: pg, where: 'rental.inventory.film.rating == "PG"', atMost: 12.5%, keep: {last: rental_date}}
      rest: neither
  - name: fine
    audience: {entity: inventory, where: "inventory.film.replacement_cost >= 25.0"}
  - name: short
    audience: {entity: inventory, where: "inventory.film.length < 80"}
  - name: fine-short
    unused: true
    intersect: {of: [fine, short], rest: one}
  - name: fine-long
    unused: true
    subtract: {from: fine, minus: [short], rest: taken}
  - name: big
    audience: {entity: payment, where: "payment.amount >= 10.99"}
  - name: paid
    unused: true
    match: {to: rental, by: {rental_id: rental_id, customer_id: customer_id}}
  - name: family
    audience: {entity: film, where: 'film.rating == "G"'}
  - name: rented
    unused: true
    changeEntity: {to: rental, via: film.copies.rentals, rest: never}
  - name: discs
    unused: true
    from: family
    match: {to: inventory, by: {film_id: film_id}, rest: not-stocked}
  - name: decide
    unused: true
    from: newest
    choose:
      branches:
      - {name: many, when: counts.newest > counts.out}
      - {name: some, when: counts.newest > 100 && counts.tiers_long < counts.tiers_some}
      - {name: few, when: "true"}
      rest: none
  - name: mail
    from: newest.older
    email: {channel: shop-mail, template: note, recipient: rental.customer}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: note}
spec: {email: {subject: "Rental {{ rental.rental_id }}", text: "Hello"}}
"#;

const RUN: &str = "sets-immediate";
const OUT: &str = "SELECT r.*, f.rating, CAST(f.length AS INTEGER) AS minutes, i.store_id, CAST(r.rental_id AS INTEGER) AS id \
    FROM rental r JOIN inventory i ON i.inventory_id = r.inventory_id JOIN film f ON f.film_id = i.film_id WHERE r.return_date IS NULL";

/// The keys of each output, as SQL written by hand gives them.
async fn expected() -> BTreeMap<&'static str, (&'static str, Vec<i64>)> {
    let mut sakila = sakila().await;
    let newest = format!(
        "FROM ({OUT}) o WHERE NOT EXISTS (SELECT 1 FROM ({OUT}) p WHERE p.customer_id = o.customer_id \
         AND (p.rental_date > o.rental_date OR p.rental_date = o.rental_date AND p.id < o.id))"
    );
    let older = format!("FROM ({OUT}) o WHERE id NOT IN (SELECT id {newest})");
    let preferred = format!(
        "FROM (SELECT id, row_number() OVER (PARTITION BY store_id ORDER BY rating = 'NC-17' DESC, rating = 'R' DESC, id) AS n \
         FROM ({OUT}) o) WHERE n <= 7"
    );
    let mut all = BTreeMap::new();
    let queries = [
        ("out", format!("SELECT id FROM ({OUT})")),
        ("out.back", "SELECT CAST(rental_id AS INTEGER) FROM rental WHERE return_date IS NOT NULL".to_owned()),
        ("newest", format!("SELECT id {newest}")),
        ("newest.older", format!("SELECT id {older}")),
        ("preferred", format!("SELECT id {preferred}")),
        ("both.long", format!("SELECT id FROM ({OUT}) WHERE minutes > 120")),
        ("both.pg", format!("SELECT id FROM ({OUT}) WHERE rating = 'PG' ORDER BY rental_date DESC, id LIMIT 22")),
        ("rented", "SELECT CAST(rental_id AS INTEGER) FROM rental JOIN inventory USING (inventory_id) JOIN film USING (film_id) WHERE film.rating = 'G'".to_owned()),
        ("paid", "SELECT DISTINCT CAST(r.rental_id AS INTEGER) FROM payment p JOIN rental r ON r.rental_id = p.rental_id AND r.customer_id = p.customer_id WHERE CAST(amount AS REAL) >= 10.99".to_owned()),
        ("decide.many", format!("SELECT id FROM ({OUT}) WHERE FALSE")),
        ("decide.some", format!("SELECT id {newest}")),
        ("decide.few", format!("SELECT id FROM ({OUT}) WHERE FALSE")),
        ("decide.none", format!("SELECT id FROM ({OUT}) WHERE FALSE")),
    ];
    for (name, sql) in queries {
        all.insert(name, ("rental_id", by_hand(&mut sakila, &sql).await));
    }
    let disc = "SELECT CAST(inventory_id AS INTEGER) FROM inventory JOIN film USING (film_id) WHERE";
    let (fine, short) = ("CAST(replacement_cost AS REAL) >= 25", "CAST(length AS INTEGER) < 80");
    for (name, condition) in [
        ("fine-short", format!("{fine} AND {short}")),
        ("fine-short.one", format!("({fine}) <> ({short})")),
        ("fine-long", format!("{fine} AND NOT {short}")),
        ("fine-long.taken", format!("{fine} AND {short}")),
    ] {
        all.insert(name, ("inventory_id", by_hand(&mut sakila, &format!("{disc} {condition}")).await));
    }
    let family = "SELECT CAST(inventory_id AS INTEGER) FROM inventory JOIN film USING (film_id) WHERE rating = 'G'";
    all.insert("discs", ("inventory_id", by_hand(&mut sakila, family).await));
    let missing = "SELECT CAST(film_id AS INTEGER) FROM film WHERE rating = 'G' AND film_id NOT IN (SELECT film_id FROM inventory)";
    let never = "SELECT CAST(film_id AS INTEGER) FROM film WHERE rating = 'G' AND film_id NOT IN (SELECT film_id FROM inventory JOIN rental USING (inventory_id))";
    all.insert("rented.never", ("film_id", by_hand(&mut sakila, never).await));
    all.insert("discs.not-stocked", ("film_id", by_hand(&mut sakila, missing).await));

    // What is drawn, by the definition: MD5 of `seed|key`, the lowest first.
    let rows = sqlx::query(sqlx::AssertSqlSafe(OUT)).fetch_all(&mut sakila).await.unwrap();
    let out: Vec<Rental> = rows
        .iter()
        .map(|row| Rental {
            id: row.get("id"),
            store: row.get("store_id"),
            date: row.get("rental_date"),
            minutes: row.get("minutes"),
            rating: row.get("rating"),
        })
        .collect();
    let mut drawn = vec![];
    for store in ["1", "2"] {
        let ids = lots(out.iter().filter(|rental| rental.store == store), "spring");
        drawn.extend(ids.into_iter().take(10));
    }
    let mut long: Vec<&Rental> = out.iter().filter(|rental| rental.minutes > 120).collect();
    long.sort_by(|a, b| (&a.date, a.id).cmp(&(&b.date, b.id)));
    let long: Vec<i64> = long.iter().take(out.len() / 10).map(|rental| rental.id).collect();
    let some: Vec<i64> =
        lots(out.iter().filter(|rental| !long.contains(&rental.id)), "tiers").into_iter().take(20).collect();
    let rest = || out.iter().filter(|rental| !long.contains(&rental.id) && !some.contains(&rental.id));
    let pg: Vec<i64> = rest().filter(|rental| rental.rating == "PG").map(|rental| rental.id).collect();
    let others: Vec<i64> = rest().filter(|rental| rental.rating != "PG").map(|rental| rental.id).collect();
    let taken = [&all["both.long"].1[..], &all["both.pg"].1[..]].concat();
    let neither: Vec<i64> = out.iter().map(|rental| rental.id).filter(|id| !taken.contains(id)).collect();
    for (name, mut ids) in [
        ("drawn", drawn),
        ("tiers.long", long.clone()),
        ("tiers.some", some.clone()),
        ("tiers.pg", pg),
        ("tiers.others", others),
        ("both.neither", neither),
    ] {
        ids.sort_unstable();
        all.insert(name, ("rental_id", ids));
    }
    all
}

struct Rental {
    id: i64,
    store: String,
    date: String,
    minutes: i64,
    rating: String,
}

/// The keys in the order in which they are drawn.
fn lots<'r>(rentals: impl Iterator<Item = &'r Rental>, seed: &str) -> Vec<i64> {
    let lot = |id: i64| Md5::digest(format!("{seed}|{id}")).to_vec();
    let mut ids: Vec<i64> = rentals.map(|rental| rental.id).collect();
    ids.sort_by_key(|id| lot(*id));
    ids
}

async fn sets_are_those_of_sql_by_hand(shop: Shop) {
    film_rental(&shop.home, CAMPAIGN);
    let ran = shop.call(&["run", "shop", "--until-idle"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let expected = expected().await;
    for (output, (key, wanted)) in &expected {
        let found = shop.keys(RUN, output, key).await;
        assert_eq!(found, *wanted, "{output}");
        let is_empty = matches!(*output, "decide.many" | "decide.few" | "decide.none");
        assert_eq!(wanted.is_empty(), is_empty, "{output} shows nothing");
    }
    // What no output has is counted.
    let status = shop.run_status(RUN);
    let left = |name: &str| step(&status, name)["left"].as_i64();
    let out = i64::try_from(expected["out"].1.len()).unwrap();
    assert_eq!(left("drawn"), Some(out - 20));
    assert_eq!(left("preferred"), Some(out - 14));
    assert_eq!(left("paid"), Some(0));
    assert_eq!(left("newest"), None, "its duplicates are an output");
    assert_eq!(status["totals"]["sent"], expected["newest.older"].1.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_are_those_of_sql_by_hand_on_sqlite() {
    sets_are_those_of_sql_by_hand(Shop::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_are_those_of_sql_by_hand_on_postgresql() {
    sets_are_those_of_sql_by_hand(Shop::on_postgres().await).await;
}
