//! The engine for a command that works offline: started, waited for, stopped.

use std::time::Duration;

use super::failure::Failure;
use super::session::tell;
use crate::actors::Engine;
use crate::actors::board::StageState;
use crate::app::App;

/// Added to the longest `load_timeout_ms`, since a stage that fails to load is tried again.
const LOADING_MARGIN: Duration = Duration::from_secs(10);

/// Does some work with an engine whose stages are as ready as they will be.
pub(super) fn with_engine<T>(
    app: &App,
    work: impl AsyncFnOnce(&Engine) -> Result<T, Failure>,
) -> Result<T, Failure> {
    app.prepare_process();
    actix::System::new().block_on(async {
        let engine = started(app).await?;
        let done = work(&engine).await;
        stopped(engine).await.and(done)
    })
}

/// Does some work with several engines, all ready at the same time; failures name the app.
pub(super) fn with_engines<T>(
    apps: &[(String, App)],
    work: impl AsyncFnOnce(&[Engine]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    apps.iter().for_each(|(_, app)| app.prepare_process());
    actix::System::new().block_on(async {
        let mut engines = Vec::new();
        let mut done = Ok(());
        for (name, app) in apps {
            match started(app).await {
                Ok(engine) => engines.push(engine),
                Err(failure) => {
                    done = Err(failure.context(name));
                    break;
                }
            }
        }
        let done = match done {
            Ok(()) => work(&engines).await,
            Err(failure) => Err(failure),
        };
        let mut is_alive = Ok(());
        for (engine, (name, _)) in engines.into_iter().zip(apps) {
            is_alive = is_alive.and(stopped(engine).await.map_err(|failure| failure.context(name)));
        }
        is_alive.and(done)
    })
}

/// An engine that can answer; one that cannot is stopped.
async fn started(app: &App) -> Result<Engine, Failure> {
    let engine = app.start_engine().map_err(Failure::internal)?;
    match wait_for_stages(app, &engine).await {
        Ok(()) => Ok(engine),
        Err(failure) => {
            stopped(engine).await?;
            Err(failure)
        }
    }
}

/// Fails if the engine's supervisor has died, whatever else is said.
async fn stopped(engine: Engine) -> Result<(), Failure> {
    let is_alive = engine.board().is_alive();
    engine.stop().await;
    if is_alive { Ok(()) } else { Err(Failure::internal(anyhow::anyhow!("the supervisor died"))) }
}

/// How many images are under way at a time: enough for the next batch of every instance to be
/// ready while it computes one, and no more, since each holds its pixels.
pub(super) fn places(app: &App) -> usize {
    let config = app.config();
    let stages = config.cascade.order.iter().filter_map(|name| config.stages.get(name));
    let slots = stages.map(|stage| stage.spec.instances * stage.spec.batching.max_batch);
    (2 * slots.sum::<usize>()).clamp(1, config.engine.max_in_flight)
}

/// Fails if no stage is ready in the end; tells of those that are not.
async fn wait_for_stages(app: &App, engine: &Engine) -> Result<(), Failure> {
    let slowest = app.config().stages.values().map(|stage| stage.spec.load_timeout_ms).max();
    let loading = Duration::from_millis(slowest.unwrap_or(0)) + LOADING_MARGIN;
    engine.settled(loading).await;
    let mut reasons = Vec::new();
    for stage in engine.board().stages() {
        if stage.state != StageState::Ready {
            let why = stage.last_fall.map_or(String::new(), |(_, detail)| format!(": {detail}"));
            reasons.push(format!("stage {} is {}{why}", stage.name, stage.state.as_str()));
        }
    }
    if !engine.board().can_answer() {
        let error = anyhow::anyhow!("no stage can answer: {}", reasons.join("; "));
        let next = "correct the settings of the stages' backends; --log info shows each attempt";
        return Err(Failure::new(error, next));
    }
    for reason in reasons {
        tell(&format!("warning: {reason}\n  next: verdicts that miss it are marked degraded"));
    }
    Ok(())
}
