-- The numbers of examples/film-rental, by hand, over the CSV files.
--
-- The tables are the files of examples/film-rental/data: the name is the file's stem, every column is TEXT, an empty
-- field is '' or NULL. Each query gives one integer, stands behind a line with its name, ends with a semicolon,
-- and is the same text on SQLite and on PostgreSQL. `now` is any time after 2006-02-22: all rentals are older.
-- Names are `audience.NAME.size|profiles`, `dataset.NAME.rows`, `CAMPAIGN.STEP.out|left` for a step (status.steps,
-- a split's outputs are `STEP.BRANCH`), and `CAMPAIGN.STEP.entered|sent|excluded|excluded.REASON` for a channel step.

-- name: dataset.rental-shop.rows
SELECT (SELECT count(*) FROM customer) + (SELECT count(*) FROM address) + (SELECT count(*) FROM city)
  + (SELECT count(*) FROM country) + (SELECT count(*) FROM store) + (SELECT count(*) FROM language)
  + (SELECT count(*) FROM film) + (SELECT count(*) FROM inventory) + (SELECT count(*) FROM rental)
  + (SELECT count(*) FROM payment);

-- name: audience.overdue-rentals.size
SELECT count(*) FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15';

-- name: audience.overdue-rentals.profiles
SELECT count(DISTINCT customer_id) FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15';

-- name: audience.rare-films.size
SELECT count(*) FROM film f WHERE (SELECT count(*) FROM inventory i WHERE i.film_id = f.film_id) < 3;

-- name: overdue-reminders.overdue.out
SELECT count(*) FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15';

-- name: overdue-reminders.spend.gold.out
WITH paid AS (
  SELECT customer_id, sum(CAST(round(CAST(amount AS numeric) * 100) AS integer)) AS cents FROM payment GROUP BY customer_id
), overdue AS (
  SELECT r.rental_id, coalesce(p.cents, 0) AS cents, trim(coalesce(c.email, '')) AS email
  FROM rental r JOIN customer c ON c.customer_id = r.customer_id LEFT JOIN paid p ON p.customer_id = r.customer_id
  WHERE coalesce(r.return_date, '') = '' AND r.rental_date < '2006-02-15'
)
SELECT count(*) FROM overdue WHERE cents >= 15000;

-- name: overdue-reminders.spend.others.out
WITH paid AS (
  SELECT customer_id, sum(CAST(round(CAST(amount AS numeric) * 100) AS integer)) AS cents FROM payment GROUP BY customer_id
), overdue AS (
  SELECT r.rental_id, coalesce(p.cents, 0) AS cents, trim(coalesce(c.email, '')) AS email
  FROM rental r JOIN customer c ON c.customer_id = r.customer_id LEFT JOIN paid p ON p.customer_id = r.customer_id
  WHERE coalesce(r.return_date, '') = '' AND r.rental_date < '2006-02-15'
)
SELECT count(*) FROM overdue WHERE cents < 15000;

-- name: overdue-reminders.mail-gold.entered
WITH paid AS (
  SELECT customer_id, sum(CAST(round(CAST(amount AS numeric) * 100) AS integer)) AS cents FROM payment GROUP BY customer_id
), overdue AS (
  SELECT r.rental_id, coalesce(p.cents, 0) AS cents, trim(coalesce(c.email, '')) AS email
  FROM rental r JOIN customer c ON c.customer_id = r.customer_id LEFT JOIN paid p ON p.customer_id = r.customer_id
  WHERE coalesce(r.return_date, '') = '' AND r.rental_date < '2006-02-15'
)
SELECT count(*) FROM overdue WHERE cents >= 15000;

-- name: overdue-reminders.mail-gold.sent
WITH paid AS (
  SELECT customer_id, sum(CAST(round(CAST(amount AS numeric) * 100) AS integer)) AS cents FROM payment GROUP BY customer_id
), overdue AS (
  SELECT r.rental_id, coalesce(p.cents, 0) AS cents, trim(coalesce(c.email, '')) AS email
  FROM rental r JOIN customer c ON c.customer_id = r.customer_id LEFT JOIN paid p ON p.customer_id = r.customer_id
  WHERE coalesce(r.return_date, '') = '' AND r.rental_date < '2006-02-15'
)
SELECT count(*) FROM overdue WHERE cents >= 15000 AND email <> '';

-- name: overdue-reminders.mail-gold.excluded
WITH paid AS (
  SELECT customer_id, sum(CAST(round(CAST(amount AS numeric) * 100) AS integer)) AS cents FROM payment GROUP BY customer_id
), overdue AS (
  SELECT r.rental_id, coalesce(p.cents, 0) AS cents, trim(coalesce(c.email, '')) AS email
  FROM rental r JOIN customer c ON c.customer_id = r.customer_id LEFT JOIN paid p ON p.customer_id = r.customer_id
  WHERE coalesce(r.return_date, '') = '' AND r.rental_date < '2006-02-15'
)
SELECT count(*) FROM overdue WHERE cents >= 15000 AND email = '';

-- name: overdue-reminders.mail-gold.excluded.NoAddress
WITH paid AS (
  SELECT customer_id, sum(CAST(round(CAST(amount AS numeric) * 100) AS integer)) AS cents FROM payment GROUP BY customer_id
), overdue AS (
  SELECT r.rental_id, coalesce(p.cents, 0) AS cents, trim(coalesce(c.email, '')) AS email
  FROM rental r JOIN customer c ON c.customer_id = r.customer_id LEFT JOIN paid p ON p.customer_id = r.customer_id
  WHERE coalesce(r.return_date, '') = '' AND r.rental_date < '2006-02-15'
)
SELECT count(*) FROM overdue WHERE cents >= 15000 AND email = '';

-- name: overdue-reminders.mail-others.entered
WITH paid AS (
  SELECT customer_id, sum(CAST(round(CAST(amount AS numeric) * 100) AS integer)) AS cents FROM payment GROUP BY customer_id
), overdue AS (
  SELECT r.rental_id, coalesce(p.cents, 0) AS cents, trim(coalesce(c.email, '')) AS email
  FROM rental r JOIN customer c ON c.customer_id = r.customer_id LEFT JOIN paid p ON p.customer_id = r.customer_id
  WHERE coalesce(r.return_date, '') = '' AND r.rental_date < '2006-02-15'
)
SELECT count(*) FROM overdue WHERE cents < 15000;

-- name: overdue-reminders.mail-others.sent
WITH paid AS (
  SELECT customer_id, sum(CAST(round(CAST(amount AS numeric) * 100) AS integer)) AS cents FROM payment GROUP BY customer_id
), overdue AS (
  SELECT r.rental_id, coalesce(p.cents, 0) AS cents, trim(coalesce(c.email, '')) AS email
  FROM rental r JOIN customer c ON c.customer_id = r.customer_id LEFT JOIN paid p ON p.customer_id = r.customer_id
  WHERE coalesce(r.return_date, '') = '' AND r.rental_date < '2006-02-15'
)
SELECT count(*) FROM overdue WHERE cents < 15000 AND email <> '';

-- name: overdue-reminders.mail-others.excluded
WITH paid AS (
  SELECT customer_id, sum(CAST(round(CAST(amount AS numeric) * 100) AS integer)) AS cents FROM payment GROUP BY customer_id
), overdue AS (
  SELECT r.rental_id, coalesce(p.cents, 0) AS cents, trim(coalesce(c.email, '')) AS email
  FROM rental r JOIN customer c ON c.customer_id = r.customer_id LEFT JOIN paid p ON p.customer_id = r.customer_id
  WHERE coalesce(r.return_date, '') = '' AND r.rental_date < '2006-02-15'
)
SELECT count(*) FROM overdue WHERE cents < 15000 AND email = '';

-- name: overdue-reminders.mail-others.excluded.NoAddress
WITH paid AS (
  SELECT customer_id, sum(CAST(round(CAST(amount AS numeric) * 100) AS integer)) AS cents FROM payment GROUP BY customer_id
), overdue AS (
  SELECT r.rental_id, coalesce(p.cents, 0) AS cents, trim(coalesce(c.email, '')) AS email
  FROM rental r JOIN customer c ON c.customer_id = r.customer_id LEFT JOIN paid p ON p.customer_id = r.customer_id
  WHERE coalesce(r.return_date, '') = '' AND r.rental_date < '2006-02-15'
)
SELECT count(*) FROM overdue WHERE cents < 15000 AND email = '';

-- name: rare-films.rare.out
SELECT count(*) FROM film f WHERE (SELECT count(*) FROM inventory i WHERE i.film_id = f.film_id) < 3;

-- name: rare-films.renters.out
SELECT count(DISTINCT r.customer_id) FROM rental r JOIN inventory i ON i.inventory_id = r.inventory_id
WHERE i.film_id IN (SELECT film_id FROM inventory GROUP BY film_id HAVING count(*) < 3);

-- name: rare-films.renters.left
SELECT count(*) FROM film f WHERE (SELECT count(*) FROM inventory i WHERE i.film_id = f.film_id) < 3
  AND NOT EXISTS (SELECT 1 FROM inventory i JOIN rental r ON r.inventory_id = i.inventory_id WHERE i.film_id = f.film_id);

-- name: rare-films.overdue.out
SELECT count(*) FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15';

-- name: rare-films.debtors.out
SELECT count(DISTINCT customer_id) FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15';

-- name: rare-films.debtors.left
SELECT count(*) FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15'
  AND customer_id NOT IN (SELECT customer_id FROM customer);

-- name: rare-films.welcome.out
WITH welcome AS (
  SELECT c.customer_id, coalesce(c.active, '') AS active, trim(coalesce(c.email, '')) AS email FROM customer c
  WHERE c.customer_id IN (
    SELECT r.customer_id FROM rental r JOIN inventory i ON i.inventory_id = r.inventory_id
    WHERE i.film_id IN (SELECT film_id FROM inventory GROUP BY film_id HAVING count(*) < 3)
  ) AND c.customer_id NOT IN (
    SELECT customer_id FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15'
  )
)
SELECT count(*) FROM welcome;

-- name: rare-films.mail.entered
WITH welcome AS (
  SELECT c.customer_id, coalesce(c.active, '') AS active, trim(coalesce(c.email, '')) AS email FROM customer c
  WHERE c.customer_id IN (
    SELECT r.customer_id FROM rental r JOIN inventory i ON i.inventory_id = r.inventory_id
    WHERE i.film_id IN (SELECT film_id FROM inventory GROUP BY film_id HAVING count(*) < 3)
  ) AND c.customer_id NOT IN (
    SELECT customer_id FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15'
  )
)
SELECT count(*) FROM welcome;

-- name: rare-films.mail.sent
WITH welcome AS (
  SELECT c.customer_id, coalesce(c.active, '') AS active, trim(coalesce(c.email, '')) AS email FROM customer c
  WHERE c.customer_id IN (
    SELECT r.customer_id FROM rental r JOIN inventory i ON i.inventory_id = r.inventory_id
    WHERE i.film_id IN (SELECT film_id FROM inventory GROUP BY film_id HAVING count(*) < 3)
  ) AND c.customer_id NOT IN (
    SELECT customer_id FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15'
  )
)
SELECT count(*) FROM welcome WHERE active = '1' AND email <> '';

-- name: rare-films.mail.excluded
WITH welcome AS (
  SELECT c.customer_id, coalesce(c.active, '') AS active, trim(coalesce(c.email, '')) AS email FROM customer c
  WHERE c.customer_id IN (
    SELECT r.customer_id FROM rental r JOIN inventory i ON i.inventory_id = r.inventory_id
    WHERE i.film_id IN (SELECT film_id FROM inventory GROUP BY film_id HAVING count(*) < 3)
  ) AND c.customer_id NOT IN (
    SELECT customer_id FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15'
  )
)
SELECT count(*) FROM welcome WHERE NOT (active = '1' AND email <> '');

-- name: rare-films.mail.excluded.NoConsent
WITH welcome AS (
  SELECT c.customer_id, coalesce(c.active, '') AS active, trim(coalesce(c.email, '')) AS email FROM customer c
  WHERE c.customer_id IN (
    SELECT r.customer_id FROM rental r JOIN inventory i ON i.inventory_id = r.inventory_id
    WHERE i.film_id IN (SELECT film_id FROM inventory GROUP BY film_id HAVING count(*) < 3)
  ) AND c.customer_id NOT IN (
    SELECT customer_id FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15'
  )
)
SELECT count(*) FROM welcome WHERE active <> '1' AND email <> '';

-- name: rare-films.mail.excluded.NoAddress
WITH welcome AS (
  SELECT c.customer_id, coalesce(c.active, '') AS active, trim(coalesce(c.email, '')) AS email FROM customer c
  WHERE c.customer_id IN (
    SELECT r.customer_id FROM rental r JOIN inventory i ON i.inventory_id = r.inventory_id
    WHERE i.film_id IN (SELECT film_id FROM inventory GROUP BY film_id HAVING count(*) < 3)
  ) AND c.customer_id NOT IN (
    SELECT customer_id FROM rental WHERE coalesce(return_date, '') = '' AND rental_date < '2006-02-15'
  )
)
SELECT count(*) FROM welcome WHERE email = '';

-- name: disc-survey.valuable.out
SELECT count(*) FROM inventory i JOIN film f ON f.film_id = i.film_id
WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29;

-- name: disc-survey.worn.out
SELECT count(*) FROM (
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
) worn;

-- name: disc-survey.discs.out
WITH discs AS (
  SELECT i.inventory_id FROM inventory i JOIN film f ON f.film_id = i.film_id
  WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29
  UNION
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
)
SELECT count(*) FROM discs;

-- name: disc-survey.rentals.out
WITH discs AS (
  SELECT i.inventory_id FROM inventory i JOIN film f ON f.film_id = i.film_id
  WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29
  UNION
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
)
SELECT count(*) FROM rental WHERE inventory_id IN (SELECT inventory_id FROM discs);

-- name: disc-survey.rentals.left
WITH discs AS (
  SELECT i.inventory_id FROM inventory i JOIN film f ON f.film_id = i.film_id
  WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29
  UNION
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
)
SELECT count(*) FROM discs WHERE inventory_id NOT IN (SELECT inventory_id FROM rental);

-- name: disc-survey.last-rentals.out
WITH discs AS (
  SELECT i.inventory_id FROM inventory i JOIN film f ON f.film_id = i.film_id
  WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29
  UNION
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
)
SELECT count(DISTINCT inventory_id) FROM rental WHERE inventory_id IN (SELECT inventory_id FROM discs);

-- name: disc-survey.mail.entered
WITH discs AS (
  SELECT i.inventory_id FROM inventory i JOIN film f ON f.film_id = i.film_id
  WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29
  UNION
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
), last_rentals AS (
  SELECT rental_id, customer_id,
    row_number() OVER (PARTITION BY inventory_id ORDER BY rental_date DESC, CAST(rental_id AS integer)) AS place
  FROM rental WHERE inventory_id IN (SELECT inventory_id FROM discs)
)
SELECT count(*) FROM last_rentals WHERE place = 1;

-- name: disc-survey.mail.sent
WITH discs AS (
  SELECT i.inventory_id FROM inventory i JOIN film f ON f.film_id = i.film_id
  WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29
  UNION
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
), last_rentals AS (
  SELECT rental_id, customer_id,
    row_number() OVER (PARTITION BY inventory_id ORDER BY rental_date DESC, CAST(rental_id AS integer)) AS place
  FROM rental WHERE inventory_id IN (SELECT inventory_id FROM discs)
)
SELECT count(DISTINCT l.customer_id) FROM last_rentals l JOIN customer c ON c.customer_id = l.customer_id
WHERE l.place = 1 AND c.active = '1' AND c.email <> '';

-- name: disc-survey.mail.excluded
WITH discs AS (
  SELECT i.inventory_id FROM inventory i JOIN film f ON f.film_id = i.film_id
  WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29
  UNION
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
), last_rentals AS (
  SELECT rental_id, customer_id,
    row_number() OVER (PARTITION BY inventory_id ORDER BY rental_date DESC, CAST(rental_id AS integer)) AS place
  FROM rental WHERE inventory_id IN (SELECT inventory_id FROM discs)
)
SELECT count(*) - count(DISTINCT CASE WHEN c.active = '1' AND c.email <> '' THEN c.customer_id END)
FROM last_rentals l JOIN customer c ON c.customer_id = l.customer_id WHERE l.place = 1;

-- name: disc-survey.mail.excluded.Duplicate
WITH discs AS (
  SELECT i.inventory_id FROM inventory i JOIN film f ON f.film_id = i.film_id
  WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29
  UNION
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
), last_rentals AS (
  SELECT rental_id, customer_id,
    row_number() OVER (PARTITION BY inventory_id ORDER BY rental_date DESC, CAST(rental_id AS integer)) AS place
  FROM rental WHERE inventory_id IN (SELECT inventory_id FROM discs)
)
SELECT count(*) - count(DISTINCT customer_id) FROM last_rentals WHERE place = 1;

-- name: disc-survey.mail.excluded.NoConsent
WITH discs AS (
  SELECT i.inventory_id FROM inventory i JOIN film f ON f.film_id = i.film_id
  WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29
  UNION
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
), last_rentals AS (
  SELECT rental_id, customer_id,
    row_number() OVER (PARTITION BY inventory_id ORDER BY rental_date DESC, CAST(rental_id AS integer)) AS place
  FROM rental WHERE inventory_id IN (SELECT inventory_id FROM discs)
)
SELECT count(DISTINCT l.customer_id) FROM last_rentals l JOIN customer c ON c.customer_id = l.customer_id
WHERE l.place = 1 AND c.active <> '1' AND c.email <> '';

-- name: disc-survey.mail.excluded.NoAddress
WITH discs AS (
  SELECT i.inventory_id FROM inventory i JOIN film f ON f.film_id = i.film_id
  WHERE f.rating IN ('G', 'PG') AND CAST(f.replacement_cost AS numeric) >= 29
  UNION
  SELECT inventory_id FROM rental WHERE return_date <> '' GROUP BY inventory_id HAVING count(*) >= 5
), last_rentals AS (
  SELECT rental_id, customer_id,
    row_number() OVER (PARTITION BY inventory_id ORDER BY rental_date DESC, CAST(rental_id AS integer)) AS place
  FROM rental WHERE inventory_id IN (SELECT inventory_id FROM discs)
)
SELECT count(DISTINCT l.customer_id) FROM last_rentals l JOIN customer c ON c.customer_id = l.customer_id
WHERE l.place = 1 AND c.email = '';
