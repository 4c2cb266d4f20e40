# The command line.

# As a user runs it: in a process of its own.
run_patina <- function(...) {
  script <- system.file("exec", "patina", package = "patina")
  stderr <- withr::local_tempfile()
  stdout <- suppressWarnings(withr::with_envvar(
    c(R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep)),
    system2(
      file.path(R.home("bin"), "Rscript"),
      shQuote(c(script, ...)),
      stdout = TRUE,
      stderr = stderr
    )
  ))
  list(
    status = attr(stdout, "status") %||% 0L,
    stdout = as.character(stdout),
    stderr = readLines(stderr)
  )
}

# The same in this process, which is faster.
run_here <- function(...) {
  stderr <- utils::capture.output(status <- run_command_line(c(...)), type = "message")
  list(status = status, stderr = stderr)
}

# A tissue of 6 x 6 spots as files; the first gene follows x.
local_tissue <- function(env = parent.frame()) {
  folder <- withr::local_tempdir(.local_envir = env)
  withr::local_seed(1)
  spots <- expand.grid(x = 1:6, y = 1:6)
  counts <- cbind(gradient = 5 * spots$x, matrix(rpois(36 * 19, 20), 36))
  colnames(counts)[-1] <- paste0("gene", 2:20)
  rownames(spots) <- rownames(counts) <- paste0(spots$x, "x", spots$y)
  utils::write.csv(counts, file.path(folder, "counts.csv"))
  utils::write.csv(cbind(depth = 1, spots), file.path(folder, "spots.csv"))
  list(folder = folder, counts = counts, spots = spots, path = \(name) file.path(folder, name))
}

expect_refused <- function(run, message) {
  expect_identical(run$status, 2L)
  expect_length(run$stderr, 1L)
  expect_match(run$stderr, message)
}

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

test_that("a formula runs nothing but arithmetic", {
  good <- c(
    "~ x",
    "~ log(total_counts) + x:y - 1",
    "~ (x + y)^2",
    "~ poly(x, 2, raw = TRUE) * factor(batch)",
    "~ splines::ns(x, df = 3) + I((x - 1)^2 / 4)",
    "~ log(exp(x) + sqrt(2))",
    "~ `odd name`"
  )
  for (text in good) {
    expect_true(rlang::is_formula(parse_formula(text), lhs = FALSE))
  }
  folder <- withr::local_tempdir()
  withr::local_dir(folder)
  bad <- c(
    '~ I({base::system("touch x"); 1})',
    'system("touch x")',
    '~ system("touch x")',
    '~ x + base::file.create("x")',
    '~ log(file.create("x"))',
    '~ I(I(file.create("x")))',
    '~ (function() file.create("x"))()',
    '~ factor(eval(parse(text = "1")))',
    "~ I(x[1])",
    "~ if (TRUE) x",
    "~ x |> log() |> print()",
    "~ stats::poly(x, 2)",
    "~ splines:::ns(x)",
    "~ x %in% y",
    "~ poly(x, degree = get('y'))",
    "~ 'text'",
    "y ~ x",
    "x",
    "~ x +",
    "~ ~ x"
  )
  for (text in bad) {
    expect_error(parse_formula(text), "--covariates", class = "patina_error_command_line")
  }
  expect_length(list.files(folder), 0L)

  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  run <- \(formula) {
    run_here(
      "--covariates",
      formula,
      tissue$path("counts.csv"),
      tissue$path("spots.csv"),
      tissue$path("a.csv")
    )
  }
  expect_refused(run("~ letters"), "letters")
  expect_refused(run('~ I({base::system("touch x"); 1})'), "may not use")
  expect_identical(run("~ splines::ns(x, df = 3) + poly(y, 2)")$status, 0L)
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
  expect_match(run$stderr, "1 spots of .*counts.csv have no coordinates", all = FALSE)
  expect_match(run$stderr, "1 spots of the coordinates have no counts", all = FALSE)
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
