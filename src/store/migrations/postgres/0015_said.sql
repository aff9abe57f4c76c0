-- What was said in the messages of a group of attempts, as far as the step keeps it (src/send/said.rs).
ALTER TABLE attempt ADD COLUMN said TEXT;
-- Signs what must be recognized later, such as the links in messages.
ALTER TABLE home ADD COLUMN secret TEXT;
