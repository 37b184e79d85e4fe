//! Panics: those that a simulation causes are quiet, any other is a finding.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;

use crate::stages::BLOW;

thread_local! {
    static UNPLANNED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From now on the panics of this process are noted by the thread that they happen on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !is_blow(info) {
                let text = info.to_string();
                UNPLANNED.with_borrow_mut(|all| all.push(text));
                before(info);
            }
        }));
    });
}

fn is_blow(info: &PanicHookInfo<'_>) -> bool {
    info.payload_as_str()
        .is_some_and(|text| text.starts_with(BLOW))
}

/// The panics on this thread that nobody planned, since the last question.
pub(crate) fn take() -> Vec<String> {
    UNPLANNED.take()
}
