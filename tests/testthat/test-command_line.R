test_that("the results are those of spatial_test()", {
  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  expected <- spatial_test(t(tissue$counts), tissue$spots)
  run <- run_patina(
    tissue$path("counts.csv"),
    tissue$path("spots.csv"),
    tissue$path("results.csv")
  )
  expect_identical(run$status, 0L)
  results <- utils::read.csv(tissue$path("results.csv"))
  expect_identical(results$gene, expected$gene)
  for (column in c("pval", "qval", "fsv", "loglik")) {
    expect_equal(results[[column]], expected[[column]], tolerance = 1e-12)
  }
  expect_setequal(list.files(tissue$folder), c("counts.csv", "spots.csv", "results.csv"))
})

test_that("orientation, separator, compression and the order of spots do not matter", {
  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  con <- gzfile(tissue$path("turned.tsv.gz"), "wt")
  utils::write.table(t(tissue$counts)[, 36:1], con, sep = "\t", quote = FALSE)
  close(con)
  run_here(tissue$path("counts.csv"), tissue$path("spots.csv"), tissue$path("a.csv"))
  run <- run_here(
    tissue$path("turned.tsv.gz"),
    tissue$path("spots.csv"),
    tissue$path("b.tsv.gz")
  )
  expect_identical(run$status, 0L)
  expect_equal(
    utils::read.delim(tissue$path("b.tsv.gz")),
    utils::read.csv(tissue$path("a.csv"))
  )
})

test_that("models and patterns are written on request", {
  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  run <- run_here(
    "--fdr=0.9999",
    "--columns=x,y",
    "--n-patterns=2",
    "--lengthscale=2",
    "--models",
    tissue$path("models.csv"),
    "--patterns",
    tissue$path("patterns.csv"),
    "--pattern-values",
    tissue$path("values.csv"),
    tissue$path("counts.csv"),
    tissue$path("spots.csv"),
    tissue$path("results.csv")
  )
  expect_identical(run$status, 0L)
  models <- utils::read.csv(tissue$path("models.csv"))
  expect_true(all(c("gene", "model", "prob_SE") %in% names(models)))
  patterns <- utils::read.csv(tissue$path("patterns.csv"))
  expect_true(all(c("gene", "pattern", "membership") %in% names(patterns)))
  values <- utils::read.csv(tissue$path("values.csv"))
  expect_true(all(c("spot", "pattern", "value") %in% names(values)))
  expect_setequal(values$spot, rownames(tissue$spots))
})

test_that("--help explains, and succeeds", {
  skip_if_not_installed("optparse")
  run <- run_patina("--help")
  expect_identical(run$status, 0L)
  expect_match(run$stdout, "COUNTS COORDINATES RESULTS", all = FALSE)
})

test_that("a mistake gives one line, status 2 and no result file", {
  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  counts <- tissue$path("counts.csv")
  spots <- tissue$path("spots.csv")
  results <- tissue$path("results.csv")

  writeLines(c("spot,a,b", "1x1,1,2", "2x1,3,many"), tissue$path("words.csv"))
  writeLines(c("spot,a,b", "1x1,1,2", "2x1,3"), tissue$path("ragged.csv"))
  file.create(tissue$path("empty.csv"))
  whole <- memCompress(readBin(counts, "raw", 1e6), "gzip")
  writeBin(whole[seq_len(length(whole) / 2)], tissue$path("half.csv.gz"))
  utils::write.csv(cbind(tissue$counts, bad = -1), tissue$path("negative.csv"))
  utils::write.csv(cbind(a = 1, b = tissue$spots$y), tissue$path("unnamed.csv"))

  expect_refused(run_patina("absent.csv", spots, results), "no such file")
  expect_refused(run_here(), "Three files")
  expect_refused(run_here(counts, spots), "Three files")
  expect_refused(run_here("--bogus", counts, spots, results), "bogus")
  expect_refused(run_here("--n-patterns=few", counts, spots, results), "n-patterns")
  expect_refused(run_here(tissue$path("words.csv"), spots, results), "'many' is not a number")
  expect_refused(run_here(tissue$path("ragged.csv"), spots, results), "row 2")
  expect_refused(run_here(tissue$path("empty.csv"), spots, results), "no row below the header")
  expect_refused(run_here(tissue$path("half.csv.gz"), spots, results), "half.csv.gz")
  expect_refused(run_here(tissue$path("negative.csv"), spots, results), "negative")
  expect_refused(run_here(counts, tissue$path("unnamed.csv"), results), "--columns")
  expect_refused(run_here(counts, spots, tissue$path("nowhere/results.csv")), "nowhere")
  expect_refused(run_here(counts, spots, counts), "name of its own")
  expect_false(file.exists(results))
  expect_length(list.files(tissue$folder, "part$"), 0L)
})

test_that("no input is overwritten, whatever its name is written like", {
  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  withr::local_dir(tissue$folder)
  before <- tools::md5sum(c("counts.csv", "spots.csv"))
  dir.create("sub")
  for (output in c("./counts.csv", "sub/../counts.csv", normalizePath("spots.csv"), "sub//../spots.csv")) {
    expect_refused(run_here("counts.csv", "spots.csv", output), "name of its own")
  }
  if (.Platform$OS.type != "windows") {
    file.symlink("counts.csv", "link.csv")
    expect_refused(run_here("counts.csv", "spots.csv", "link.csv"), "name of its own")
  }
  expect_refused(run_here("--models=./r.csv", "counts.csv", "spots.csv", "r.csv"), "name of its own")
  expect_identical(tools::md5sum(c("counts.csv", "spots.csv")), before)
})

test_that("a name that a spreadsheet would run is written as text", {
  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  names <- c("=1+1", "+2", "-AS1", "@SUM(A1)", "plain", "mid=dle")
  counts <- tissue$counts[, 1:6]
  colnames(counts) <- names
  utils::write.csv(counts, tissue$path("counts.csv"))
  run <- run_here(tissue$path("counts.csv"), tissue$path("spots.csv"), tissue$path("a.csv"))
  expect_identical(run$status, 0L)
  expect_identical(
    utils::read.csv(tissue$path("a.csv"))$gene,
    c("'=1+1", "'+2", "'-AS1", "'@SUM(A1)", "plain", "mid=dle")
  )
})

test_that("bad numbers are refused, and the version is said", {
  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  files <- c(tissue$path("counts.csv"), tissue$path("spots.csv"), tissue$path("results.csv"))
  for (fdr in c("abc", "5", "0")) {
    expect_refused(suppressWarnings(run_here("--fdr", fdr, files)), "--fdr must be a number between 0 and 1")
  }
  expect_refused(suppressWarnings(run_here("--threads", "many", files)), "threads")
  expect_false(file.exists(tissue$path("results.csv")))
  version <- run_patina("--version")
  expect_identical(version$status, 0L)
  expect_identical(version$stdout, paste("patina", utils::packageVersion("patina")))
})
