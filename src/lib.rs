//! Campanile rings campaigns on time: a declarative reconciler for customer communication.
//!
//! Campaigns and audiences are YAML custom resources. A controller reconciles them into runs, sends the messages and
//! records status back on the resources. The same engine works in two homes: a folder with SQLite, and a Kubernetes
//! cluster with PostgreSQL.
//!
//! # What flows where
//!
//! ```text
//! desired state    source -> reconcile -> plan -> run -> send
//! status           source <- reconcile <--------------/
//! rows             files -> ingest -> store
//! all of them stand on store; api and rule depend on nothing else
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`api`] | the custom resources: schema, defaults, printer columns, conditions |
//! | [`source`] | a folder or a cluster: where desired state comes from and status goes to |
//! | [`reconcile`] | one reconciler per kind: dereference, validate, build, apply, update status |
//! | [`plan`] | resources become SELECT statements and templates, or findings that point at a field |
//! | [`rule`] | rule text becomes a typed expression becomes SQL |
//! | [`run`] | when a campaign starts, and how a run's steps are evaluated |
//! | [`send`] | claim, render, deliver, record; one file per provider |
//! | [`review`] | what a change will do, told without doing it |
//! | [`person`] | all that is known of one person, and how she is forgotten |
//! | [`feedback`] | what comes back: people who withdraw, bounces and complaints, callbacks, opens and clicks |
//! | [`history`] | what became of messages, as a warehouse or a webhook reads it |
//! | [`ingest`] | files become rows of entities |
//! | [`files`] | folders and object stores: what is there, how it is read, how it is written whole |
//! | [`metrics`] | what Prometheus scrapes |
//! | [`store`] | the relational store, in two dialects |
//! | [`cli`] | one file per command |
//!
//! A new activity is a file in `plan/activity`, a provider one in `send/channel`, a command one in `cli`, and one line
//! where its siblings are listed. (The design puts activities under `run`; they stand in `plan`, because a preview
//! compiles the same ones and never runs.)
//!
//! # ARCHITECTURE: what always holds
//!
//! - **No audience is ever in memory.** Up to the rendering of a message all work is set-based SQL; Rust holds one batch.
//! - **One outcome each.** `entered = sent + failed + excluded + expired + cancelled + inDoubt + waiting`, in every status.
//! - **An attempt is committed before its bytes go out**, its outcome after, both in groups. A committed attempt without
//!   an outcome or a known failure is `InDoubt`; a process never has more than `connections × depth` of them, whatever
//!   it claims, and nobody sends them again but where the step says `onDoubt: Resend`, or a person does.
//! - **Who may be dead writes nothing.** A worker ends by its own monotonic clock before others take its work over, and
//!   every commit of its attempts and outcomes checks that the work is still its own.
//! - **Names are identity.** What was sent is remembered under namespace and name; no UID, no object and no file has to
//!   survive for nothing to go out twice. `run (namespace, name)` is unique: that is the fence between two controllers.
//! - **A run reads its own revision**, pinned by hash in the store, never the catalog.
//! - **The gate is no manifest.** Only `--deliver live` reaches a real recipient.
//! - **Time is an input.** Only [`clock`] asks the machine (clippy forbids the rest); no SQL says `now()`.
//!
//! What is deliberately absent:
//!
//! - no value of an author or of the data in SQL text: identifiers are quoted, values are bound;
//! - nothing outside [`store`] that knows which database it talks to, but for the dialect a query is built for;
//! - nothing outside [`source`] and [`reconcile`] that knows Kubernetes, but for the types in [`api`];
//! - no sequence, foreign key or trigger on the ledger's tables, no advisory lock, no `LISTEN`, and no unique key without
//!   day and shard (a test reads the catalog and the SQL);
//! - no personal value in a condition, an event, a log line or a reject's reason.

pub mod api;
pub mod cli;
pub mod clock;
pub mod feedback;
pub mod files;
pub mod history;
pub mod ingest;
pub mod metrics;
pub mod person;
pub mod plan;
pub mod reconcile;
pub mod review;
pub mod rule;
pub mod run;
pub mod send;
pub mod source;
pub mod store;
