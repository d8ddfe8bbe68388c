//! The answers to `/livez` and `/readyz`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_std::future::timeout;
use futures_lite::{future, FutureExt};
use hyper::header::{HeaderValue, CACHE_CONTROL, CONTENT_TYPE};
use hyper::StatusCode;
use serde::Serialize;

use super::generation::Generation;
use crate::app::Check;
use crate::error::{chain, panic_text};
use crate::http::ResponseBody;

/// The state that `/readyz` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Readiness {
    /// The process accepts connections. The checks of the application decide.
    Ready,
    /// Paused by WINCH: no connection is accepted.
    Paused,
    /// Shutting down, or replaced by a new process. Load balancers should send no new connections.
    Leaving,
}

/// The body of an answer.
#[derive(Serialize)]
struct HealthReport<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckResult<'a>>,
}

/// The result of one readiness check.
#[derive(Serialize)]
struct CheckResult<'a> {
    name: &'a str,
    status: &'static str,
    took_ms: u64,
    /// The error, in a debug build only. A release build only logs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Answers `/livez`.
pub(super) fn live() -> hyper::Response<ResponseBody> {
    let report = HealthReport {
        status: "alive",
        generation: None,
        checks: vec![],
    };
    answer(StatusCode::OK, &report)
}

/// Answers `/readyz`. The checks run at the same time, and only if the process is ready by itself.
pub(super) async fn ready(
    readiness: Readiness,
    generation: Arc<Generation>,
) -> hyper::Response<ResponseBody> {
    let number = Some(generation.number);
    let unready = match readiness {
        Readiness::Ready => None,
        Readiness::Paused => Some("paused"),
        Readiness::Leaving => Some("leaving"),
    };
    if let Some(status) = unready {
        let report = HealthReport {
            status,
            generation: number,
            checks: vec![],
        };
        return answer(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    let checks = join_all(generation.checks.iter().map(run_check).collect()).await;
    let (code, status) = match checks.iter().all(|check| check.status == "ok") {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "failing"),
    };
    answer(
        code,
        &HealthReport {
            status,
            generation: number,
            checks,
        },
    )
}

/// Runs futures at the same time and returns their results in order.
async fn join_all<T>(futures: Vec<impl std::future::Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    future::poll_fn(|cx| {
        let mut pending = false;
        for (future, done) in waiting.iter_mut().filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(cx) {
                std::task::Poll::Ready(result) => *done = Some(result),
                std::task::Poll::Pending => pending = true,
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

async fn run_check(check: &Check) -> CheckResult<'_> {
    let started = Instant::now();
    // called within the future, so that a panic of the call itself is caught as well
    let work = AssertUnwindSafe(async { (check.run)().await }).catch_unwind();
    let failure = match timeout(check.within, work).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(chain(&*error)),
        Ok(Err(panic)) => Some(format!("panicked: {}", panic_text(&*panic))),
        Err(_) => Some(format!("no answer within {:?}", check.within)),
    };
    if let Some(failure) = &failure {
        log::warn!("not ready: check {:?}: {failure}", check.name);
    }
    CheckResult {
        name: &check.name,
        status: if failure.is_none() { "ok" } else { "failed" },
        took_ms: millis(started.elapsed()),
        error: failure.filter(|_| cfg!(debug_assertions)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn answer(status: StatusCode, report: &HealthReport<'_>) -> hyper::Response<ResponseBody> {
    // strings and numbers always serialize
    let mut text = serde_json::to_string(report).unwrap_or_default();
    text.push('\n');
    let mut response = hyper::Response::new(ResponseBody::Full(text.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
