//! Monitors that report to JavaScript: warnings while a repository is open, and the progress of an
//! operation.
//!
//! Their functions are weak, so that a listener alone keeps no process alive, and bounded: when
//! JavaScript does not keep up, calls are dropped, not queued.

use super::stop::{NativeStop, Stop};
use super::types::progress_json;
use crate::monitor::{Monitor, Progress, Warning};
use napi::bindgen_prelude::{ClassInstance, FnArgs, Function, Status};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use std::sync::Arc;

type WarningFunction = ThreadsafeFunction<FnArgs<WarningArgs>, (), FnArgs<WarningArgs>, Status, false, true, 64>;

/// Code, message, and the id of the pack concerned.
pub(super) type WarningArgs = (String, String, Option<String>);

/// Reports the warnings of a repository for as long as it is open.
pub(super) struct OpenMonitor {
    on_warning: Option<WarningFunction>,
    /// Stops `init` or `open`; operations on the open repository do not read it.
    stop: Arc<Stop>,
}

impl OpenMonitor {
    /// Reports to `on_warning` and stops at `stop`.
    pub(super) fn new(
        on_warning: Option<Function<'_, FnArgs<WarningArgs>, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<Self> {
        let build = |function: Function<'_, FnArgs<WarningArgs>, ()>| {
            let builder = function.build_threadsafe_function::<FnArgs<WarningArgs>>();
            let builder = builder.callee_handled::<false>().weak::<true>();
            builder.max_queue_size::<64>().build()
        };
        Ok(Self {
            on_warning: on_warning.map(build).transpose()?,
            stop: stop.map(|stop| stop.stop_handle()).unwrap_or_default(),
        })
    }
}

impl Monitor for OpenMonitor {
    fn warning(&self, warning: Warning) {
        if let Some(function) = &self.on_warning {
            let args = FnArgs::from((warning.code.to_owned(), warning.message, warning.pack));
            function.call(args, ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.is_stopped()
    }

    fn begin_commit(&self) -> bool {
        self.stop.begin_commit()
    }
}

/// A JavaScript function that gets progress as JSON.
pub(super) struct ProgressFunction(ThreadsafeFunction<String, (), String, Status, false, true, 16>);

impl ProgressFunction {
    /// Wraps `function`, if there is one.
    pub(super) fn new(function: Option<Function<'_, String, ()>>) -> napi::Result<Option<Self>> {
        let build = |function: Function<'_, String, ()>| {
            let builder = function.build_threadsafe_function::<String>();
            let builder = builder.callee_handled::<false>().weak::<true>();
            builder.max_queue_size::<16>().build().map(Self)
        };
        function.map(build).transpose()
    }

    /// Reports `progress`, or drops it when JavaScript is late: each report replaces the one
    /// before.
    pub(super) fn report(&self, progress: &Progress) {
        self.0
            .call(progress_json(progress), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// Reports the progress of one operation that moves no bytes between JavaScript and the engine, and
/// stops it.
pub(super) struct OperationMonitor {
    progress: Option<ProgressFunction>,
    stop: Arc<Stop>,
}

impl OperationMonitor {
    /// Reports to `on_progress` and stops at `stop`.
    pub(super) fn new(
        on_progress: Option<Function<'_, String, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<Self> {
        Ok(Self {
            progress: ProgressFunction::new(on_progress)?,
            stop: stop.map(|stop| stop.stop_handle()).unwrap_or_default(),
        })
    }
}

impl Monitor for OperationMonitor {
    fn progress(&self, progress: &Progress) {
        if let Some(function) = &self.progress {
            function.report(progress);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.is_stopped()
    }

    fn begin_commit(&self) -> bool {
        self.stop.begin_commit()
    }

    fn end_commit(&self) {
        self.stop.end_commit();
    }
}
