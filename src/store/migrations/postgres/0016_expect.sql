-- What a campaign expects now, and the number of recipients that a person let pass: a run is weighed by them when it is planned.
ALTER TABLE campaign ADD COLUMN expect TEXT;
ALTER TABLE campaign ADD COLUMN accepted BIGINT;
