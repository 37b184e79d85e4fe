//! Readers that never notice: what the api answers while versions come, switch and go, while
//! somebody waits for a write, while a candidate is compared, while an api dies in the middle of a
//! switch, through a pooler, and without a database.

#[path = "reads/away.rs"]
mod away;
#[path = "reads/crash.rs"]
mod crash;
#[path = "reads/durability.rs"]
mod durability;
#[path = "reads/ending.rs"]
mod ending;
#[path = "reads/freshness.rs"]
mod freshness;
#[path = "reads/history.rs"]
mod history;
#[path = "reads/pooler.rs"]
mod pooler;
#[path = "reads/resetting.rs"]
mod resetting;
#[path = "reads/scene.rs"]
mod scene;
#[path = "reads/shadow.rs"]
mod shadow;
#[path = "reads/standby.rs"]
mod standby;
