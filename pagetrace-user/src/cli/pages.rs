//! What packagers install beside the program: completion scripts and manual pages.

use std::io;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::failure::{Code, Failure};

/// The completion script for `shell`.
#[must_use]
pub fn completions(mut command: Command, shell: Shell) -> String {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page (roff) of the program, with `sections` (title and text) at its end, or of its command `name`.
///
/// # Errors
/// When there is no such command.
pub fn manual(mut command: Command, name: Option<&str>, sections: &[(&str, &str)]) -> Result<String, Failure> {
    command.build();
    let mut page = Vec::new();
    let written = match name {
        None => program_page(command, sections, &mut page),
        Some(name) => match command.find_subcommand(name) {
            Some(found) => man(found.clone()).render(&mut page),
            None => {
                let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
                return Err(Failure::new(
                    Code::Usage,
                    format!("no manual page for {name:?}"),
                    "there is no such command",
                    format!("name one of: {}", names.join(", ")),
                ));
            }
        },
    };
    written.map_err(|error| Failure::new(Code::Failed, "cannot write the manual page", error.to_string(), ""))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn man(command: Command) -> Man {
    Man::new(command).source(concat!("pagetrace-user ", env!("CARGO_PKG_VERSION")))
}

fn program_page(command: Command, sections: &[(&str, &str)], page: &mut Vec<u8>) -> io::Result<()> {
    let man = man(command);
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    man.render_subcommands_section(page)?;
    let mut rest = Roff::new();
    for (title, text) in sections {
        rest.control("SH", [title.to_uppercase().as_str()]).control("nf", []);
        for line in text.lines() {
            rest.text([roman(line)]);
        }
        rest.control("fi", []);
    }
    rest.to_writer(page)
}
