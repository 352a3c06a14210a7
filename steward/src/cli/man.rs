//! `steward man`: the manual, all verbs in one page, made from the same definitions as the help.

use clap_mangen::Man as Page;
use clap_mangen::roff::{Roff, roman};

use super::exit::Exit;
use super::output::Output;
use super::{Context, Verb, command};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Man {}

impl Verb for Man {
    const NAME: &'static str = "man";
    const ABOUT: &'static str = "Print the manual page";
    const MORE: &'static str = "\
Examples:
  steward man | man -l -
  steward man > /usr/local/share/man/man1/steward.1";

    fn run(self, _: Context) -> anyhow::Result<Exit> {
        let mut output = Output::stdout();
        output.bytes(&page()?)?;
        output.flush()?;
        Ok(Exit::OK)
    }
}

fn page() -> std::io::Result<Vec<u8>> {
    let mut command = command().disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    let main = Page::new(command.clone()).manual("steward").source(format!("steward {}", env!("CARGO_PKG_VERSION")));
    main.render(&mut page)?;
    for verb in command.get_subcommands() {
        let mut heading = Roff::new();
        heading.control("SH", [format!("steward {}", verb.get_name()).to_uppercase().as_str()]);
        heading.text([roman(verb.get_about().map(ToString::to_string).unwrap_or_default())]);
        heading.to_writer(&mut page)?;
        // Global options stand in the first part; here they would stand ten times.
        let verb = verb.clone().mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
        let part = Page::new(verb);
        part.render_synopsis_section(&mut page)?;
        part.render_options_section(&mut page)?;
        part.render_extra_section(&mut page)?;
    }
    Ok(page)
}
