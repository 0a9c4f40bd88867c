//! What the programs on allocators' functions need of the kernel: attaching, and their maps.

use std::io;

use aya::maps::HashMap;
use pagetrace_common::control::call_count;

use super::{Kernel, failed, object};
use crate::event::{CallCount, Probe};
use crate::failure::Failure;
use crate::live::uprobe::{Point, Program, StateDirectory, Target, UprobeSet, Way};
use crate::units::{Bytes, Pid};

const PROGRAM: &str = "pt_object";

/// Sampled objects that may live at once, of all processes.
pub const MOST_LIVE: u32 = 1 << 20;
/// Functions, of all processes, that are counted.
pub const MOST_CALLS: u32 = 1 << 16;

/// The maps.
pub struct ObjectMaps {
    pub calls: HashMap<aya::maps::MapData, [u32; 2], [u64; call_count::COUNT]>,
    pub live: HashMap<aya::maps::MapData, [u64; 2], u64>,
    pub returns: HashMap<aya::maps::MapData, u32, u32>,
    /// Made of the object when it is first needed.
    pub program: Option<Program>,
}

/// A point on an allocator's function.
#[derive(Clone, Debug)]
pub struct ObjectPoint {
    pub point: Point,
    /// The function's return has to be seen, by way of the kernel.
    pub takes_return: bool,
}

impl Kernel {
    /// Attaches to functions of an allocator until this is dropped. What came of each point.
    ///
    /// *Errors.* Those of [`UprobeSet::attach`].
    pub fn attach_objects(&mut self, target: &Target, points: &[ObjectPoint]) -> Result<Vec<Probe>, Failure> {
        let program = match self.objects.program.take() {
            Some(program) => program,
            None => Program::of_object(object(), PROGRAM, self.maps.clone())
                .map_err(|error: io::Error| failed("find the program for objects", &error))?,
        };
        let program = self.objects.program.insert(program);
        let mut probes = Vec::new();
        for way in Way::best_with_returns() {
            let only_returns = matches!(way, Way::MultiReturns | Way::PerfReturns);
            let chosen = points.iter().filter(|point| !only_returns || point.takes_return);
            let chosen: Vec<Point> = chosen.map(|point| point.point.clone()).collect();
            if chosen.is_empty() {
                continue;
            }
            let set = UprobeSet::attach(program, target, &chosen, *way, &StateDirectory::default())?;
            if only_returns {
                probes.extend(set.probes().iter().filter(|probe| !probe.attached).cloned());
            } else {
                probes.extend(set.probes().iter().cloned());
            }
            self.uprobes.push(set);
        }
        Ok(probes)
    }

    /// Lets returns of functions be taken over in this process: in the address space of this owner, or, for none, in
    /// the next one that is seen.
    pub fn take_returns(&mut self, pid: Pid, owner: Option<u32>) -> Result<(), Failure> {
        let set = self.objects.returns.insert(pid.0, owner.unwrap_or(0), 0);
        set.map_err(|error| failed("let returns be seen", &error))
    }

    /// Takes what was counted of one function in one address space; `None`: it was not called.
    pub fn take_calls(&mut self, owner: u32, who: u32) -> Option<CallCount> {
        let row = self.objects.calls.get(&[owner, who], 0).ok()?;
        // It is there: who counts it is gone, or what it counts from now on is counted anew.
        let _ = self.objects.calls.remove(&[owner, who]);
        let word = |index: usize| row.get(index).copied().unwrap_or(0);
        Some(CallCount {
            calls: word(call_count::CALLS),
            bytes: Bytes(word(call_count::BYTES)),
            nested: word(call_count::NESTED),
            failed: word(call_count::FAILED),
        })
    }

    /// Forgets the sampled objects of address spaces that are gone.
    pub fn forget_objects(&mut self, is_gone: impl Fn(u32) -> bool) {
        let keys: Vec<[u64; 2]> = self.objects.live.keys().filter_map(Result::ok).collect();
        for key in keys.iter().filter(|[owner, _]| u32::try_from(*owner).is_ok_and(&is_gone)) {
            // It may have been freed meanwhile.
            let _ = self.objects.live.remove(key);
        }
    }
}
