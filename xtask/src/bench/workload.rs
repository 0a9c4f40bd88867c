//! The measured programs: compiled here, started anew for each measurement, told when to do a round.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process::capture;

/// The compiled program.
pub struct Program(PathBuf);

/// It at work.
pub struct Workload {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    said: String,
}

/// What it does in a round.
#[derive(Clone, Copy)]
pub enum Act {
    Touch,
    Syscall,
    Malloc,
}

impl Act {
    const fn name(self) -> &'static str {
        match self {
            Act::Touch => "touch",
            Act::Syscall => "syscall",
            Act::Malloc => "malloc",
        }
    }

    /// How often in a round. Touches come in whole spans of 4096 pages.
    pub const fn count(self) -> u64 {
        match self {
            Act::Touch => 1 << 17,
            Act::Syscall => 2_000_000,
            Act::Malloc => 1_000_000,
        }
    }
}

impl Program {
    pub fn compile(directory: &Path) -> Result<Program> {
        let source = directory.join("workload.c");
        let program = directory.join("workload");
        fs::write(&source, include_str!("workload.c"))?;
        capture(Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(&source))?;
        Ok(Program(program))
    }

    /// Starts it on this CPU, ready for a round.
    pub fn start(&self, act: Act, cpu: usize) -> Result<Workload> {
        self.start_under(Command::new(&self.0), act, cpu)
    }

    /// The same, in a tool that takes the program as its last argument.
    pub fn start_in(&self, mut tool: Command, act: Act, cpu: usize) -> Result<Workload> {
        tool.arg(&self.0);
        self.start_under(tool, act, cpu)
    }

    fn start_under(&self, mut command: Command, act: Act, cpu: usize) -> Result<Workload> {
        command.arg(act.name()).arg(act.count().to_string()).arg(cpu.to_string());
        Workload::start(&mut command)
    }
}

impl Workload {
    /// Starts it, ready for a round.
    pub fn start(command: &mut Command) -> Result<Workload> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let input = child.stdin.take().context("no stdin")?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut workload = Workload { child, input, output, said: String::new() };
        // It, or a tool around it, may say something first.
        loop {
            let line = workload.line()?;
            if line == "ready" {
                return Ok(workload);
            }
            workload.said = line;
        }
    }

    /// The last that it said before it was ready.
    pub fn said(&self) -> &str {
        &self.said
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it do a round; what it measured comes with [`Workload::finish_round`].
    pub fn begin_round(&mut self) -> Result<()> {
        self.input.write_all(b"\n").context("the workload has ended")
    }

    /// The figures of the round that was begun.
    pub fn finish_round(&mut self) -> Result<Vec<f64>> {
        let line = self.line()?;
        let figures: Result<Vec<f64>, _> = line.split(' ').map(str::parse).collect();
        figures.with_context(|| format!("the workload says {line:?}"))
    }

    /// A whole round.
    pub fn round(&mut self) -> Result<Vec<f64>> {
        self.begin_round()?;
        self.finish_round()
    }

    /// Ends it and waits for its end.
    pub fn end(mut self) -> Result<()> {
        drop(self.input);
        while self.output.read_line(&mut String::new())? > 0 {}
        let status = self.child.wait()?;
        ensure!(status.success(), "the workload ended with {status}");
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the workload ended with {}", self.child.wait()?);
        }
        Ok(line.trim_end().to_owned())
    }
}
