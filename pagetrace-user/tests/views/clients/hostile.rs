//! Traces of any events, forged ones among them: every form of events is written, twice the same, and what its client counts fits.

use std::fs;

use pagetrace_user::event::{Body, Object, ObjectAct};
use pagetrace_user::export::Form;
use pagetrace_user::stacks::Of;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::{exported_file, heaptrack, printed};
use crate::any_event::any_events;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_events_are_written_in_every_form_of_events(events in any_events(200), sampled in any::<bool>()) {
        let trace = heaptrack::trace(&events, if sampled { 4096 } else { 0 });
        let allocs = events.iter().any(|event| matches!(event.body, Body::Object(Object { act: ObjectAct::Alloc, .. })));
        // The forms of stacks replay all of the trace, which of a forged one was seen to take minutes.
        for (extension, form) in Form::ALL.iter().filter(|(_, form)| !form.is_of_stacks()) {
            let (written, done) = exported_file(&trace, *form, Of::Resident);
            prop_assert_eq!(&(written.clone(), done), &exported_file(&trace, *form, Of::Resident), "{}", extension);
            if form.is_of_objects() && allocs {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join(format!("heaptrack.x.1.{extension}"));
                fs::write(&path, written).unwrap();
                let text = printed("heaptrack_print", &[], &path);
                prop_assert!(text.contains("calls to allocation functions: "), "{}", text);
            }
        }
    }
}
