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
//! `router`, `suspicion`, `former`, `lanes`, `restart`, `batching` and `latency` are pure: time is an
//! argument.

pub mod batching;
mod berth;
pub mod board;
mod engine;
pub mod former;
mod instance;
mod job;
mod killpoint;
pub mod lanes;
pub mod latency;
mod lease;
pub mod mailbox;
pub mod restart;
pub mod router;
mod shared;
#[cfg(test)]
mod simulation;
mod stage;
mod supervisor;
pub mod suspicion;

pub use engine::{Admission, Engine, EngineSpec};
pub use job::{JobId, Outcome, Priority, Request, Ticket};
pub use stage::{StagePlan, StageSpec, StageTuning};
pub use supervisor::{Routing, Tuning};
