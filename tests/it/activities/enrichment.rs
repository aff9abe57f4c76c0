//! What templates read of `enrich` steps: fields, aggregates, the first rows of a link.

use sqlx::{AssertSqlSafe, Row};

use super::{Shop, film_rental, sakila};

const CAMPAIGN: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: memories}
spec:
  dataset: rental-shop
  topic: rental-reminders
  schedule: {immediate: {}}
  steps:
  - name: people
    audience: {entity: customer, where: "customer.customer_id <= 20 || customer.customer_id == 318"}
  - name: home
    enrich: {as: home, fields: [address.city.city, customer.address.city.country.country, create_date]}
  - name: spent
    enrich: {as: spent, aggregate: "customer.payments.map(p, p.amount).sum()"}
  - name: often
    enrich: {as: often, aggregate: "size(customer.rentals)"}
  - name: films
    enrich: {as: films, link: customer.rentals, top: 3, orderBy: rental_date, direction: Descending}
  - name: dear
    enrich: {as: dear, link: customer.payments, top: 2, orderBy: amount, direction: Descending, shape: Columns}
  - name: halves
    split: {branches: [{name: low, where: "customer.customer_id <= 10"}], rest: high}
  - name: all
    union: {of: [halves.low, halves.high]}
  - name: mail
    email: {channel: shop-mail, template: memories}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: memories}
spec:
  email:
    subject: "{{ customer.customer_id }}: {{ home.city }}, {{ home.country }}, {{ home.create_date | date }}"
    text: |
      spent {{ spent }} in {{ often }}
      {% for film in films %}[{{ film.rental_date | datetime }} {{ film.inventory.film.title }} {{ film.inventory.film.rental_rate }}{{ " out" if film.return_date is undefined }}]{% endfor %}
      {{ films | length }} {{ films[0].rental_id }} {{ dear_1.amount }} {{ dear_2.payment_date | date }}
"#;

/// Each person's lines, as SQL written by hand gives the values.
async fn expected() -> Vec<String> {
    let mut sakila = sakila().await;
    let sql = "SELECT c.customer_id AS id, y.city, o.country, c.create_date, \
        (SELECT printf('%.2f', sum(CAST(amount AS REAL))) FROM payment p WHERE p.customer_id = c.customer_id) AS spent, \
        (SELECT count(*) FROM rental r WHERE r.customer_id = c.customer_id) AS often \
        FROM customer c JOIN address USING (address_id) JOIN city y USING (city_id) JOIN country o USING (country_id) \
        WHERE CAST(c.customer_id AS INTEGER) <= 20 OR c.customer_id = '318'";
    let mut letters = vec![];
    for person in sqlx::query(sql).fetch_all(&mut sakila).await.unwrap() {
        let text = |name: &str| person.get::<String, _>(name);
        let id = text("id");
        let films = format!(
            "SELECT r.rental_id, r.rental_date, r.return_date, f.title, f.rental_rate FROM rental r JOIN inventory USING (inventory_id) \
             JOIN film f USING (film_id) WHERE r.customer_id = '{id}' ORDER BY r.rental_date DESC, CAST(r.rental_id AS INTEGER) LIMIT 3"
        );
        let films = sqlx::query(AssertSqlSafe(films)).fetch_all(&mut sakila).await.unwrap();
        let dear = format!(
            "SELECT amount, payment_date FROM payment WHERE customer_id = '{id}' ORDER BY CAST(amount AS REAL) DESC, CAST(payment_id AS INTEGER) LIMIT 2"
        );
        let dear = sqlx::query(AssertSqlSafe(dear)).fetch_all(&mut sakila).await.unwrap();
        let shown: String = films
            .iter()
            .map(|film| {
                let text = |name: &str| film.get::<String, _>(name);
                let out = if film.get::<Option<String>, _>("return_date").is_none() { " out" } else { "" };
                format!("[{} {} {}{out}]", &text("rental_date")[..16], text("title"), text("rental_rate"))
            })
            .collect();
        letters.push(format!(
            "Subject: {id}: {}, {}, {}\nspent {} in {}\n{shown}\n{} {} {} {}",
            text("city"),
            text("country"),
            text("create_date"),
            text("spent"),
            person.get::<i64, _>("often"),
            films.len(),
            films[0].get::<String, _>("rental_id"),
            dear[0].get::<String, _>("amount"),
            &dear[1].get::<String, _>("payment_date")[..10],
        ));
    }
    letters.sort();
    letters
}

async fn templates_read_what_was_added(shop: Shop) {
    film_rental(&shop.home, CAMPAIGN);
    let ran = shop.call(&["run", "shop", "--until-idle"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut letters: Vec<String> = shop.home.outbox().iter().map(|path| read(path)).collect();
    letters.sort();
    assert_eq!(letters, expected().await);
    assert_eq!(letters.len(), 21);
    // The values stand in the steps' work tables, for a person to read.
    let table = |step: &str| {
        let status = shop.run_status("memories-immediate");
        super::step(&status, step)["table"].as_str().unwrap().to_owned()
    };
    let films = shop.texts(&format!("SELECT films FROM \"{}\" WHERE customer_id = 318", table("films"))).await;
    let rows: Vec<Vec<serde_json::Value>> = serde_json::from_str(&films[0]).unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0].len(), 5, "only what the template reads is fetched: {rows:?}");
}

/// The subject and the text of a message.
fn read(path: &std::path::Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let text = String::from_utf8(bytes).unwrap().replace("\r\n", "\n");
    let subject = text.lines().find(|line| line.starts_with("Subject: ")).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let body =
        if head.contains("quoted-printable") { body.replace("=\n", "").replace("=3D", "=") } else { body.to_owned() };
    format!("{subject}\n{}", body.trim_end())
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_read_what_was_added_on_sqlite() {
    templates_read_what_was_added(Shop::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_read_what_was_added_on_postgresql() {
    templates_read_what_was_added(Shop::on_postgres().await).await;
}
