//! Commands that show how things stand, and `close`.

use super::{Answer, Refusal, Run, line, whole};
use crate::pen::answers::Effect;
use crate::pen::pages;

/// `recent` without a number looks back for so long, s.
const RECENT_DEFAULT: i32 = 300;

impl Run<'_> {
    pub(super) fn figure(&mut self, word: &str, args: &[&str]) -> Answer {
        match word {
            "close" => self.close(args),
            "connection" => self.connection(args),
            "control" => Ok(line(self.pen.control.as_deref().unwrap_or("(null)"))),
            "idlers" => self.idlers(args),
            "mode" => Ok(pages::mode(self.pen)),
            "pid" => Ok(line(self.around.facts.pid())),
            "recent" => {
                let seconds = args.first().map_or(Ok(RECENT_DEFAULT), |word| whole("recent", word))?;
                Ok(pages::recent(self.around.facts, seconds))
            }
            "servers" => Ok(pages::servers(self.pen, self.around.facts)),
            "socket" => self.socket(args),
            _ => self.status(),
        }
    }

    /// The number of a place in the table of connections; no word is place 0.
    fn place(&self, command: &str, args: &[&str]) -> Result<usize, Refusal> {
        let given = args.first().map_or(Ok(0), |word| whole(command, word))?;
        let place = usize::try_from(given).ok().filter(|_| given < self.pen.conn_max);
        place.ok_or_else(|| Refusal::Pens(format!("Connection {given} out of range\n")))
    }

    fn close(&mut self, args: &[&str]) -> Answer {
        let place = self.place("close", args)?;
        self.effects.push(Effect::Close(place));
        Ok(format!("Forcibly closing connection {place}\n"))
    }

    fn connection(&mut self, args: &[&str]) -> Answer {
        let place = self.place("connection", args)?;
        let found = self.around.facts.connections().into_iter().find(|found| found.number == place);
        Ok(pages::connection(place, found.as_ref()))
    }

    fn idlers(&mut self, args: &[&str]) -> Answer {
        if let Some(word) = args.first() {
            self.pen.idlers = whole("idlers", word)?.max(0);
            self.changed = true;
        }
        Ok(format!("Idlers: {}/{}\n", self.around.facts.idlers(), self.pen.idlers))
    }

    fn socket(&mut self, args: &[&str]) -> Answer {
        let fd = args.first().map_or(Ok(0), |word| whole("socket", word))?;
        let connections = self.around.facts.connections();
        let owner =
            connections.iter().find(|found| fd >= 0 && (found.client_fd == fd || found.server_fd == fd));
        let number = owner.and_then(|found| i64::try_from(found.number).ok()).unwrap_or(-1);
        Ok(format!("Socket {fd} belongs to connection {number}\n"))
    }

    /// The page, which is also written to its file.
    fn status(&mut self) -> Answer {
        let failed = || Err(Refusal::Pens("Unable to create webstats\n".to_owned()));
        let Some(file) = &self.pen.web_stats else {
            self.effects
                .push(Effect::Message("Don't know where to write web stats; see -w option".to_owned()));
            return failed();
        };
        let page = pages::html(self.pen, self.around.facts);
        match self.around.files.write(file, page.as_bytes()) {
            Ok(()) => Ok(page),
            Err(error) => {
                self.effects.push(Effect::Message(format!("{}: {error}", file.display())));
                failed()
            }
        }
    }
}
