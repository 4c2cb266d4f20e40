counts <- cbind(
  s1 = c(5, 0, 9, 1),
  s2 = c(90, 0, 0, 0),
  s3 = c(80, 1, 7, 0),
  s4 = c(0, 0, 1, 0),
  s5 = c(70, 2, 9, 0)
)
rownames(counts) <- paste0("g", 1:4)

test_that("spots and genes with few counts are left out, and counted", {
  expect_message(kept <- filter_spots(counts), "1 of 5 spots has")
  expect_identical(kept, counts[, -4])
  expect_message(kept <- filter_spots(counts, min_total = 16), "2 of 5 spots have")
  expect_identical(colnames(kept), c("s2", "s3", "s5"))
  expect_message(kept <- filter_genes(counts), "1 of 4 genes has")
  expect_identical(kept, counts[1:3, ])
  expect_message(kept <- filter_genes(counts, min_spots = 3), "2 of 4 genes have")
  expect_identical(rownames(kept), c("g1", "g3"))
})

test_that("what comes out is of the class that went in", {
  filter <- \(x) suppressMessages(filter_genes(filter_spots(x)))
  expected <- counts[1:3, -4]
  sparse <- Matrix::Matrix(counts, sparse = TRUE)
  expect_identical(filter(sparse), sparse[1:3, -4])
  table <- as.data.frame(t(counts))
  expect_identical(filter(table), table[-4, 1:3])
  skip_if_not_installed("SummarizedExperiment")
  se <- SummarizedExperiment::SummarizedExperiment(list(counts = counts))
  expect_identical(SummarizedExperiment::assay(filter(se)), expected)
})

test_that("limits that leave nothing, or make no sense, are explained", {
  expect_error(filter_spots(counts, min_total = 1e6), "all 5", class = "patina_error_counts")
  expect_error(filter_spots(counts, min_share = 2), class = "patina_error_argument")
  expect_error(filter_genes(counts, min_total = "a"), class = "patina_error_argument")
  expect_error(filter_genes(counts, 3), class = "patina_error_argument")
})

test_that("what has no rows and columns to take is an error that says what has", {
  expect_error(filter_spots(example_tissue(60, 10)), "counts", class = "patina_error_input")
  skip_if_not_installed("SeuratObject")
  seurat <- SeuratObject::CreateSeuratObject(methods::as(counts, "CsparseMatrix")) |> suppressWarnings()
  expect_error(filter_genes(seurat), "subset", class = "patina_error_input")
})
