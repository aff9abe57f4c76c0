//! One target for all tests of the whole: one file per behaviour, on real servers.

mod bad_input;
mod cluster;
mod consent_over_time;
mod crashes;
mod doubt;
mod edits_while_watching;
mod empty_cluster;
mod files_arrive;
mod film_rental;
mod home;
mod kill_in_mid_send;
mod message_history;
mod nothing_twice;
mod rates;
mod reruns;
mod restores;
mod rule_faults;
mod rules_agree;
mod rules_at_random;
mod signatures;
mod simulation;
mod smtp_servers;
mod stop_and_start;
mod store_conformance;
mod world;
