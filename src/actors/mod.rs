//! The actor system: a supervisor that routes jobs between stages, stages that keep instances
//! alive, instances that run backends.
//!
//! ```text
//!            Engine::submit
//!                  │ Submit
//!                  ▼          Lend                    batch
//!   Router ◀─ Supervisor ───────────▶ Mailbox ─────────────────▶ Instance ─▶ Backend
//!   (pure)     │     ▲            (batch former)                (OS thread)
//!       starts │     └── Report: Answered / Failed ─────────────────┘ │
//!              ▼                                                      │
//!            Stage ◀── Ready / Fell ──────────────────────────────────┘
//! ```
//!
//! Control travels as actix messages; work travels through the bounded mailbox to OS threads.
//! `router`, `restart`, `batching` and `latency` are pure: time is an argument.

pub mod batching;
pub mod board;
mod engine;
mod instance;
mod job;
pub mod latency;
pub mod mailbox;
pub mod restart;
pub mod router;
mod stage;
mod supervisor;

pub use engine::{Admission, Engine, EngineSpec};
pub use job::{JobId, Outcome, Priority, Request, Ticket};
pub use stage::{StagePlan, StageSpec, StageTuning};
pub use supervisor::{Routing, Tuning};
