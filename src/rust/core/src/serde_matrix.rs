//! Matrices in serialised data, as their shape and their columns: for `#[serde(with)]`.

use faer::Mat;
use serde::de::Error;
use serde::ser::{SerializeSeq, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

struct Columns<'a>(&'a Mat<f64>);

impl Serialize for Columns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.0.nrows() * self.0.ncols()))?;
        for value in self.0.col_iter().flat_map(|column| column.iter()) {
            sequence.serialize_element(value)?;
        }
        sequence.end()
    }
}

pub fn serialize<S: Serializer>(x: &Mat<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(3)?;
    tuple.serialize_element(&x.nrows())?;
    tuple.serialize_element(&x.ncols())?;
    tuple.serialize_element(&Columns(x))?;
    tuple.end()
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mat<f64>, D::Error> {
    let (rows, columns, values) = <(usize, usize, Vec<f64>)>::deserialize(deserializer)?;
    if rows.checked_mul(columns) != Some(values.len()) {
        return Err(D::Error::custom("a matrix does not have as many values as rows times columns"));
    }
    Ok(Mat::from_fn(rows, columns, |i, j| values[j * rows + i]))
}
