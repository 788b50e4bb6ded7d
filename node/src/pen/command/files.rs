//! Commands about files, and `exit`.

use std::path::{Path, PathBuf};

use super::{Answer, INCLUDES_DEPTH_MAX, LINES_MAX, Refusal, Run, done, line, needed, refuse};
use crate::pen::answers::Effect;
use crate::pen::model::LogTarget;
use crate::pen::write;

/// What the commands of files may answer, bytes; what does not fit is left out.
const PRINTED_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Run<'_> {
    pub(super) fn files(&mut self, word: &str, args: &[&str]) -> Answer {
        match word {
            "exit" => self.exit(),
            "include" => {
                let Ok(file) = needed(word, args) else { return refuse("Usage: include filename") };
                self.include(Path::new(file))
            }
            "log" => {
                if let Some(target) = args.first() {
                    let target = LogTarget::from_words(target);
                    self.pen.log = Some(target.clone());
                    self.effects.push(Effect::Log(Some(target)));
                }
                Ok(self.pen.log.as_ref().map(line).unwrap_or_default())
            }
            "web_stats" => {
                if let Some(file) = args.first() {
                    self.pen.web_stats = Some(PathBuf::from(file));
                }
                Ok(self.pen.web_stats.as_ref().map(|file| line(file.display())).unwrap_or_default())
            }
            _ => self.write(args),
        }
    }

    fn exit(&mut self) -> Answer {
        if !self.pen.exit_enabled {
            let answer = "Exit is not enabled; restart with -X flag\n";
            return Err(Refusal::Pens(answer.to_owned()));
        }
        self.effects.push(Effect::Exit);
        done()
    }

    fn write(&mut self, args: &[&str]) -> Answer {
        let file = args.first().map(PathBuf::from).or_else(|| self.pen.config_file.clone());
        let Some(file) = file else { return refuse("write: no file") };
        let text = write::file(self.pen, &file, &self.around.facts.local_time());
        match self.around.files.write(&file, text.as_bytes()) {
            Ok(()) => done(),
            Err(error) => refuse(format!("Can't open file '{}': {error}", file.display())),
        }
    }

    fn include(&mut self, file: &Path) -> Answer {
        match self.file(file)? {
            0 => done(),
            wrong => refuse(format!("include: {wrong} wrong lines in {}", file.display())),
        }
    }

    /// Runs the commands of a file; answers are printed, refusals are told with their place. How many there were.
    pub(super) fn file(&mut self, file: &Path) -> Result<usize, Refusal> {
        if self.depth >= INCLUDES_DEPTH_MAX {
            return refuse(format!("include: files are nested deeper than {INCLUDES_DEPTH_MAX}"));
        }
        let text = match self.around.files.read(file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                let why = format!("Can't read config file '{}'", file.display());
                self.effects.push(Effect::Message(format!("{why}: {error}")));
                return refuse(why);
            }
        };
        self.depth += 1;
        let wrong = self.lines_of(file, &text);
        self.depth -= 1;
        wrong
    }

    fn lines_of(&mut self, file: &Path, text: &str) -> Result<usize, Refusal> {
        let mut wrong = 0;
        for (at, line) in text.lines().enumerate() {
            if self.lines >= LINES_MAX {
                let why = format!("{}: more than {LINES_MAX} commands at once", file.display());
                self.effects.push(Effect::Message(why.clone()));
                return refuse(why);
            }
            match self.line(line) {
                Ok(answer) | Err(Refusal::Pens(answer)) => {
                    if self.printed.len() + answer.len() <= PRINTED_BYTES_MAX {
                        self.printed.push_str(&answer);
                    }
                }
                Err(Refusal::Ours(why)) => {
                    wrong += 1;
                    self.tell(format!("{}:{}: {why}", file.display(), at + 1));
                }
            }
        }
        Ok(wrong)
    }
}
