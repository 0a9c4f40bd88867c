//! One table, a group of rows at a time.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::columns::Column;

/// Rows of a group.
const MOST_ROWS: usize = 1 << 16;
/// Bytes of text of a group, by which a hostile trace is bounded.
const MOST_TEXT: usize = 1 << 24;

/// What is in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    /// Microseconds since the Unix epoch.
    Time,
    Text,
    Flag,
}

/// A value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Number(i64),
    Text(&'a str),
    Flag(bool),
}

/// The values of a column that are there.
enum Values {
    Numbers(Vec<i64>),
    Texts(Vec<ByteArray>),
    Flags(Vec<bool>),
}

struct Rows {
    values: Values,
    /// By row: 1 where a value is there.
    there: Vec<i16>,
}

pub(super) struct Table<'a, W: Write + Send> {
    writer: SerializedFileWriter<&'a mut W>,
    places: HashMap<&'static str, usize>,
    columns: Vec<Rows>,
    rows: usize,
    text_bytes: usize,
}

impl<'a, W: Write + Send> Table<'a, W> {
    pub fn new(name: &str, columns: &[Column], out: &'a mut W) -> io::Result<Table<'a, W>> {
        let writer = open(name, columns, out).map_err(failed)?;
        let places = columns.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
        let values = |kind: Kind| match kind {
            Kind::Number | Kind::Time => Values::Numbers(Vec::new()),
            Kind::Text => Values::Texts(Vec::new()),
            Kind::Flag => Values::Flags(Vec::new()),
        };
        let columns = columns.iter().map(|(_, kind)| Rows { values: values(*kind), there: Vec::new() }).collect();
        Ok(Table { writer, places, columns, rows: 0, text_bytes: 0 })
    }

    /// A value of the row that is being made; the first one of a name counts.
    pub fn put(&mut self, name: &'static str, cell: Cell<'_>) {
        let Some(column) = self.places.get(name).and_then(|at| self.columns.get_mut(*at)) else { return };
        if column.there.len() > self.rows {
            return;
        }
        match (&mut column.values, cell) {
            (Values::Numbers(numbers), Cell::Number(number)) => numbers.push(number),
            (Values::Flags(flags), Cell::Flag(flag)) => flags.push(flag),
            (Values::Texts(texts), Cell::Text(text)) => {
                self.text_bytes = self.text_bytes.saturating_add(text.len());
                texts.push(ByteArray::from(text));
            }
            // An advice without a name.
            (Values::Texts(texts), Cell::Number(number)) => texts.push(ByteArray::from(number.to_string().as_str())),
            _ => return,
        }
        column.there.push(1);
    }

    /// The row is complete.
    pub fn row(&mut self) -> io::Result<()> {
        self.rows += 1;
        for column in &mut self.columns {
            column.there.resize(self.rows, 0);
        }
        if self.rows < MOST_ROWS && self.text_bytes < MOST_TEXT { Ok(()) } else { self.group().map_err(failed) }
    }

    /// Writes the rest and the end of the file.
    pub fn finish(mut self) -> io::Result<()> {
        if self.rows > 0 {
            self.group().map_err(failed)?;
        }
        self.writer.close().map_err(failed)?;
        Ok(())
    }

    fn group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for rows in &mut self.columns {
            let Some(mut column) = group.next_column()? else { break };
            let there = Some(rows.there.as_slice());
            match (column.untyped(), &mut rows.values) {
                (ColumnWriter::Int64ColumnWriter(column), Values::Numbers(numbers)) => {
                    column.write_batch(numbers, there, None)?;
                    numbers.clear();
                }
                (ColumnWriter::ByteArrayColumnWriter(column), Values::Texts(texts)) => {
                    column.write_batch(texts, there, None)?;
                    texts.clear();
                }
                (ColumnWriter::BoolColumnWriter(column), Values::Flags(flags)) => {
                    column.write_batch(flags, there, None)?;
                    flags.clear();
                }
                _ => return Err(ParquetError::General("a column of another type than its values".to_owned())),
            }
            rows.there.clear();
            column.close()?;
        }
        group.close()?;
        (self.rows, self.text_bytes) = (0, 0);
        Ok(())
    }
}

fn open<'a, W: Write + Send>(
    name: &str,
    columns: &[Column],
    out: &'a mut W,
) -> Result<SerializedFileWriter<&'a mut W>> {
    let mut fields = Vec::with_capacity(columns.len());
    for (name, kind) in columns {
        let (physical, logical) = match kind {
            Kind::Number => (Physical::INT64, None),
            Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Flag => (Physical::BOOLEAN, None),
        };
        let field = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()?;
        fields.push(Arc::new(field));
    }
    let schema = Type::group_type_builder(name).with_fields(fields).build()?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("pagetrace ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))
}

/// What stopped the crate: an error of the file, or of the form.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}
