# SpatialDE's own numbers, and the tissue they are of; reference/spatialde.py made both.

spatialde_reference <- function(name) {
  table <- utils::read.csv(testthat::test_path("reference", sprintf("spatialde_%s.csv", name)))
  rownames(table) <- table$g
  table
}

spatialde_tissue <- function() {
  read <- \(name) {
    utils::read.csv(testthat::test_path("reference", sprintf("spatialde_%s.csv", name)), row.names = 1)
  }
  info <- read("info")
  list(counts = as.matrix(read("counts")), info = info, coords = info[c("x", "y")])
}
