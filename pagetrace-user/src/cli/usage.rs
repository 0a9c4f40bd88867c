//! What clap finds wrong -> a [`Failure`] with its three lines.

use std::error::Error as _;
use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::cli::values::BadValue;
use crate::failure::{Code, Failure};

/// The failure for `error`, which clap found in `words`.
pub fn failure(mut command: Command, words: &[OsString], error: &Error) -> Failure {
    command.build();
    match error.kind() {
        ErrorKind::ValueValidation => bad_value(&command, words, error),
        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument => stray_word(&command, words, error),
        _ => as_clap_says(&command, words, error),
    }
}

/// How to read what the command takes that these words begin.
fn help(command: &Command, words: &[OsString]) -> String {
    match words.get(1).and_then(|word| command.find_subcommand(word)) {
        Some(subcommand) => format!("pagetrace-user {} --help", subcommand.get_name()),
        None => "pagetrace-user --help".to_owned(),
    }
}

/// A value that one of our own readers refused.
fn bad_value(command: &Command, words: &[OsString], error: &Error) -> Failure {
    let (Some(arg), Some(value)) = (text(error, ContextKind::InvalidArg), text(error, ContextKind::InvalidValue))
    else {
        return as_clap_says(command, words, error);
    };
    let what = format!("invalid value {value:?} for {arg}{}", origin(command, words, &arg, &value));
    match error.source().and_then(|source| source.downcast_ref::<BadValue>()) {
        Some(bad) => Failure::new(Code::Usage, what, &bad.why, &bad.fix),
        None => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            Failure::new(Code::Usage, what, why, help(command, words))
        }
    }
}

/// Says so when the value stands in the environment and not on the command line.
fn origin(command: &Command, words: &[OsString], arg: &str, value: &str) -> String {
    let on_the_line = words.iter().skip(1).any(|word| word.to_string_lossy().contains(value)) && !value.is_empty();
    let known = std::iter::once(command).chain(command.get_subcommands()).flat_map(Command::get_arguments);
    let name = known.filter(|known| known.to_string() == arg).find_map(|known| known.get_env());
    match name {
        Some(name) if !on_the_line && std::env::var_os(name).is_some() => {
            format!(" (from {})", name.to_string_lossy())
        }
        _ => String::new(),
    }
}

/// A word that is no command, or one too many: perhaps a process number or a program without what goes before it.
fn stray_word(command: &Command, words: &[OsString], error: &Error) -> Failure {
    let word = text(error, ContextKind::InvalidSubcommand).or_else(|| text(error, ContextKind::InvalidArg));
    let Some(word) = word.filter(|word| !word.starts_with('-')) else {
        return as_clap_says(command, words, error);
    };
    if word.parse::<u32>().is_ok() {
        return Failure::new(
            Code::Usage,
            format!("unexpected {word:?}"),
            "a process is selected with --pid",
            format!("pagetrace-user --pid {word}"),
        );
    }
    if words.get(1).is_some_and(|first| *first == *word) {
        return Failure::new(
            Code::Usage,
            format!("unexpected {word:?}"),
            "there is no such command, and a program to record goes after two dashes",
            format!("pagetrace-user --help, or: sudo pagetrace-user -- {word} ..."),
        );
    }
    as_clap_says(command, words, error)
}

/// Clap's own words: its first paragraph is what failed, its tip is the remedy.
fn as_clap_says(command: &Command, words: &[OsString], error: &Error) -> Failure {
    let rendered = error.render().to_string();
    let lines = || rendered.lines().map(str::trim);
    let what: Vec<&str> = lines().take_while(|line| !line.is_empty()).collect();
    let what = what.join(" ");
    // NOTE: the tip to put an unknown option after `--` would start a program of that name.
    let tips: Vec<&str> =
        lines().filter_map(|line| line.strip_prefix("tip: ")).filter(|tip| !tip.starts_with("to pass")).collect();
    let fix = if tips.is_empty() { help(command, words) } else { tips.join("; ") };
    Failure::new(Code::Usage, what.strip_prefix("error: ").unwrap_or(&what), "", fix)
}

/// What clap notes about an error under `kind`, when that is one text.
fn text(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}
