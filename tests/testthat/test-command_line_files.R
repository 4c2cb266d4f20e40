test_that("counts may come through a pipe and results leave through one", {
  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  script <- system.file("exec", "patina", package = "patina")
  program <- paste(shQuote(file.path(R.home("bin"), "Rscript")), shQuote(script))
  withr::local_envvar(R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep))
  run_here(tissue$path("counts.csv"), tissue$path("spots.csv"), tissue$path("plain.csv"))
  expected <- readLines(tissue$path("plain.csv"))
  for (input in c("-", "/dev/stdin")) {
    command <- paste(program, input, shQuote(tissue$path("spots.csv")), "-")
    said <- system2(
      "sh",
      c("-c", shQuote(paste("cat", shQuote(tissue$path("counts.csv")), "|", command))),
      stdout = TRUE,
      stderr = FALSE
    )
    expect_identical(said, expected)
  }
})

test_that("spots that only one of the tables has are left out with a note", {
  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  more <- rbind(cbind(depth = 1, tissue$spots), data.frame(depth = 1, x = 9, y = 9, row.names = "9x9"))
  utils::write.csv(more[-1, ], tissue$path("other.csv"))
  run <- run_here(tissue$path("counts.csv"), tissue$path("other.csv"), tissue$path("results.csv"))
  expect_identical(run$status, 0L)
  expect_match(run$stderr, "1 spot of .*counts.csv without coordinates", all = FALSE)
  expect_match(run$stderr, "1 spot of the coordinates without counts", all = FALSE)
  expect_identical(utils::read.csv(tissue$path("results.csv"))$n[1], 35L)
})

test_that("10x folders and files, and AnnData files, are read", {
  skip_if_not_installed("optparse")
  skip_if_not_installed("rhdf5")
  tissue <- local_tissue()
  run_here(tissue$path("counts.csv"), tissue$path("spots.csv"), tissue$path("plain.csv"))
  expected <- utils::read.csv(tissue$path("plain.csv"))
  counts <- Matrix::Matrix(t(tissue$counts), sparse = TRUE)

  folder <- tissue$path("filtered")
  dir.create(folder)
  Matrix::writeMM(counts, file.path(folder, "matrix.mtx"))
  system2("gzip", file.path(folder, "matrix.mtx"))
  writeLines(colnames(counts), file.path(folder, "barcodes.tsv"))
  features <- cbind(paste0("ENS", seq_len(nrow(counts))), rownames(counts), "Gene Expression")
  write.table(
    features,
    file.path(folder, "features.tsv"),
    sep = "\t",
    quote = FALSE,
    col.names = FALSE,
    row.names = FALSE
  )
  run <- run_here(folder, tissue$path("spots.csv"), tissue$path("folder.csv"))
  expect_identical(run$status, 0L)
  expect_equal(utils::read.csv(tissue$path("folder.csv")), expected)

  h5 <- tissue$path("filtered.h5")
  rhdf5::h5createFile(h5)
  rhdf5::h5createGroup(h5, "matrix")
  rhdf5::h5createGroup(h5, "matrix/features")
  sparse <- as_dgc(counts)
  parts <- list(data = sparse@x, indices = sparse@i, indptr = sparse@p, shape = dim(sparse))
  for (name in names(parts)) {
    rhdf5::h5write(parts[[name]], h5, paste0("matrix/", name))
  }
  rhdf5::h5write(colnames(counts), h5, "matrix/barcodes")
  rhdf5::h5write(rownames(counts), h5, "matrix/features/name")
  rhdf5::h5write(features[, 3], h5, "matrix/features/feature_type")
  run <- run_here(h5, tissue$path("spots.csv"), tissue$path("h5.csv"))
  expect_identical(run$status, 0L)
  expect_equal(utils::read.csv(tissue$path("h5.csv")), expected)

  anndata <- test_path("reference", "anndata_csr.h5ad")
  run <- run_here("--layer", "X", anndata, tissue$path("anndata.csv"))
  expect_identical(run$status, 0L)
  results <- suppressMessages(spatial_test(anndata, threads = 1))
  expect_equal(utils::read.csv(tissue$path("anndata.csv"))$pval, results$pval)
  run <- run_here(anndata, tissue$path("tested.h5ad"))
  expect_identical(run$status, 0L)
  var <- h5ad_table(tissue$path("tested.h5ad"), "var", h5_contents(tissue$path("tested.h5ad"), NULL))
  expect_identical(var$patina_pval, results$pval)
  expect_refused(run_here(anndata, tissue$path("spots.csv"), tissue$path("x.csv")), "its own coordinates")
})

test_that("a gene that is called like a spot does not turn the table", {
  spots <- c("a", "b", "c")
  write <- function(values) {
    path <- withr::local_tempfile(fileext = ".csv", .local_envir = parent.frame())
    utils::write.csv(values, path)
    path
  }
  counts <- matrix(1:12, 4, dimnames = list(c("a", "g2", "g3", "g4"), spots))
  expect_identical(dimnames(read_counts_table(write(counts), spots)), dimnames(counts))
  expect_identical(dimnames(read_counts_table(write(t(counts)), spots)), dimnames(counts))
  both <- matrix(1:9, 3, dimnames = list(spots, spots))
  expect_error(read_counts_table(write(both), spots), "Both")
})

test_that("numbers are read strictly", {
  expect_identical(parse_numbers("2:4", "--n"), as.numeric(2:4))
  expect_identical(parse_numbers("1,2.5", "--n"), c(1, 2.5))
  for (bad in c("2:", ":2", "1:Inf", "0", "1,,2", "1:2,3", "a", "")) {
    expect_error(parse_numbers(bad, "--n"), "--n")
  }
})
