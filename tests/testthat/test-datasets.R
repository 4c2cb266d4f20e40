test_that("the olfactory bulb is read as it is", {
  withr::local_envvar(PATINA_DATA = dirname(data_path("Rep11_MOB_0.csv.gz")))
  tissue <- load_dataset("mob")
  expect_s4_class(tissue$counts, "dgCMatrix")
  expect_identical(dim(tissue$counts), c(16218L, 260L))
  expect_identical(colnames(tissue$counts), rownames(tissue$sample_info))
  expect_identical(tissue$counts["Nrf1", 1:2], c(`16.92x9.015` = 1, `16.945x11.075` = 0))
  kept <- Matrix::rowSums(tissue$counts) >= 3
  expect_identical(sum(kept), 14859L)
  expect_equal(tissue$sample_info$total_counts, unname(Matrix::colSums(tissue$counts[kept, ])))
})

test_that("breast cancer's places come from the names of its spots", {
  withr::local_envvar(PATINA_DATA = dirname(data_path("Layer2_BC_count_matrix-1.tsv.gz")))
  tissue <- load_dataset("breast_cancer")
  expect_identical(dim(tissue$counts), c(14789L, 251L))
  expect_identical(colnames(tissue$counts)[23], "18.939x9.0")
  expect_identical(tissue$sample_info$x[23], 18.939)
  expect_identical(tissue$sample_info$y[23], 9)
  expect_snapshot(print(tissue))
})

test_that("the other data sets are read as their sources have them, and tested as they are", {
  withr::local_envvar(PATINA_DATA = dirname(data_path("seqFISH_field43_countdata.csv.gz")))
  cells <- load_dataset("seqfish")
  expect_identical(dim(cells$counts), c(249L, 131L))
  expect_identical(cells$counts["Emx2", "C1"], 13)
  expect_identical(unlist(cells$sample_info["C1", c("x", "y", "z")]), c(x = 686L, y = 352L, z = 1L))
  results <- spatial_test(cells, normalization = "anscombe", pval_method = "spatialde", threads = 1)
  expect_identical(
    results,
    spatial_test(
      cells$counts,
      cells$sample_info[c("x", "y")],
      normalization = "anscombe",
      pval_method = "spatialde",
      threads = 1
    )
  )

  yeast <- load_dataset("fission")
  expect_identical(dim(yeast$expression), c(6459L, 36L))
  expect_identical(sort(unique(yeast$sample_info$minute)), c(0L, 15L, 30L, 60L, 120L, 180L))
  expect_identical(attr(as_input(yeast)$coords, "dimnames")[[2L]], "minute")
  expect_snapshot(print(yeast))

  bulb <- load_dataset("mob8")
  expect_identical(dim(bulb$counts), c(7365L, 260L))
  expect_equal(rowSums(bulb$sample_info[paste0("type", 1:12)]), rep(1, 260), ignore_attr = TRUE)
  expect_snapshot(print(bulb))
})

test_that("MERFISH cells come with their types", {
  skip_if_not_installed("SpatialExperiment")
  withr::local_envvar(PATINA_DATA = dirname(data_path("merfish_mousePOA.rda")))
  tissue <- load_dataset("merfish")
  expect_identical(dim(tissue$expression), c(155L, 6509L))
  expect_identical(names(tissue$sample_info), c("x", "y", "celltype", "neurontype"))
  expect_identical(sum(tissue$sample_info$celltype == "Ependymal"), 202L)
  expect_error(spatial_test(tissue), "must hold counts", class = "patina_error_counts")
})

test_that("tables are read sparse, whatever separates them", {
  table <- data.frame(A = c(1L, 0L, 30L), `B-1` = c(0L, 0L, 2L), C = 0L, check.names = FALSE)
  rownames(table) <- c("1x2", "1.5x2", "3x4")
  for (separator in c(",", "\t")) {
    file <- withr::local_tempfile()
    utils::write.table(
      table,
      file,
      sep = separator,
      quote = FALSE,
      col.names = NA
    )
    counts <- read_counts(readLines(file))
    expect_s4_class(counts, "dgCMatrix")
    expect_identical(as.matrix(counts), t(as.matrix(table)) * 1)
  }
})

# A file of a data set, as it is at its source, and an empty cache.
local_source <- function(frame = parent.frame()) {
  folder <- withr::local_tempdir(.local_envir = frame)
  withr::local_envvar(PATINA_DATA = "", R_USER_CACHE_DIR = file.path(folder, "cache"), .local_envir = frame)
  dir.create(file.path(folder, "source"))
  path <- file.path(folder, "source", "counts.csv")
  writeLines(c("some counts", "and more"), path)
  list(
    url = paste0("file://", folder),
    file = list(
      name = "counts.csv",
      source = paste0("file://", folder, "/source"),
      sha256 = sha256(readBin(path, "raw", file.size(path)), NULL)
    ),
    path = path,
    cache = tools::R_user_dir("patina", "cache")
  )
}

test_that("downloads are kept under their names, with and without BiocFileCache", {
  source <- local_source()
  url <- file.path(source$url, "source", "counts.csv")
  for (cached in c(FALSE, if (rlang::is_installed("BiocFileCache")) TRUE)) {
    expect_message(path <- download_file(url, source$cache, "counts.csv", NULL, cached), "Downloading")
    expect_identical(readLines(path), c("some counts", "and more"))
    expect_identical(path, find_file("counts.csv", source$cache))
    # a file that was removed is downloaded again
    unlink(path)
    suppressMessages(download_file(url, source$cache, "counts.csv", NULL, cached))
    expect_true(file.exists(path))
    unlink(path)
    expect_error(
      suppressMessages(download_file(paste0(url, "x"), source$cache, "counts.csv", NULL, cached)),
      "cannot be downloaded.*counts.csvx.*PATINA_DATA",
      class = "patina_error_download"
    )
    expect_false(file.exists(path))
  }
})

test_that("a file is downloaded once, and checked whenever it is read", {
  source <- local_source()
  read <- \(file = source$file) suppressMessages(dataset_lines(file, NULL))
  expect_identical(read(), c("some counts", "and more"))
  unlink(source$path)
  expect_identical(read(), c("some counts", "and more"))

  cached <- file.path(source$cache, "counts.csv")
  writeLines("other counts", cached)
  expect_error(read(), "counts.csv.*SHA-256 differs.*Remove it", class = "patina_error_download")
  file.create(cached)
  expect_error(read(), "SHA-256 differs", class = "patina_error_download")
  unlink(cached)
  expect_error(read(), "cannot be downloaded", class = "patina_error_download")
})

test_that("files in PATINA_DATA are checked too, plain and compressed", {
  source <- local_source()
  folder <- withr::local_tempdir()
  withr::local_envvar(PATINA_DATA = folder)
  read <- \() dataset_lines(source$file, NULL)
  con <- gzfile(file.path(folder, "counts.csv.gz"), "wb")
  writeLines(c("some counts", "and more"), con)
  close(con)
  expect_identical(read(), c("some counts", "and more"))
  whole <- readBin(file.path(folder, "counts.csv.gz"), "raw", 1e4)
  writeBin(whole[seq_len(20)], file.path(folder, "counts.csv.gz"))
  expect_error(read(), "counts.csv.gz", class = "patina_error_download")
  file.create(file.path(folder, "Rep11_MOB_0.csv"))
  expect_error(load_dataset("mob"), "Rep11_MOB_0.csv.*SHA-256", class = "patina_error_download")
})

test_that("a data set that is nowhere names address and place, and the folder next door is not searched", {
  withr::local_envvar(PATINA_DATA = "", R_USER_CACHE_DIR = withr::local_tempdir())
  above <- withr::local_tempdir()
  dir.create(file.path(above, "here"))
  dir.create(file.path(above, "shared", "data"), recursive = TRUE)
  writeLines("planted", file.path(above, "shared", "data", "Rep11_MOB_0.csv"))
  withr::local_dir(file.path(above, "here"))
  file <- utils::modifyList(dataset_files$mob$counts, list(source = "file:///nowhere/MouseOB/data"))
  error <- expect_error(
    suppressMessages(dataset_lines(file, NULL)),
    class = "patina_error_download"
  )
  expect_match(conditionMessage(error), "file:///nowhere/MouseOB/data/Rep11_MOB_0.csv")
  expect_match(conditionMessage(error), "PATINA_DATA")
  expect_error(load_dataset("../../etc/passwd"), "mob", class = "patina_error_argument")
})

test_that("the example is the same everywhere and leaves the generator alone", {
  withr::local_seed(7)
  before <- .Random.seed
  tissue <- example_tissue()
  expect_identical(.Random.seed, before)
  expect_identical(dim(tissue$counts), c(200L, 300L))
  # fixed values: another platform or another version of R must give them too
  expect_identical(sum(tissue$counts), 858459)
  expect_identical(
    unname(as.matrix(tissue$counts)[1:2, 1:5]),
    rbind(c(18, 11, 16, 11, 4), c(9, 6, 5, 4, 16))
  )
  withr::with_seed(
    5,
    expect_identical(example_tissue(), tissue),
    .rng_kind = "L'Ecuyer-CMRG",
    .rng_sample_kind = "Rounding"
  ) |>
    suppressWarnings()
  expect_false(identical(example_tissue(seed = 2)$counts, tissue$counts))
  expect_snapshot(print(tissue))
})

test_that("a session without random numbers keeps its clean slate", {
  withr::local_seed(1)
  kind <- RNGkind()
  rm(".Random.seed", envir = globalenv())
  example_tissue(20, 5)
  expect_false(exists(".Random.seed", globalenv(), inherits = FALSE))
  expect_identical(RNGkind(), kind)
})

test_that("the example's sizes are as asked for", {
  for (n in c(5, 17, 61, 1000)) {
    tissue <- example_tissue(n, 9)
    expect_identical(dim(tissue$counts), c(9L, as.integer(n)))
    distances <- stats::dist(tissue$sample_info[c("x", "y")])
    expect_equal(min(distances), 1)
    expect_identical(rownames(tissue$sample_info), colnames(tissue$counts))
    expect_identical(tissue$truth$gene, rownames(tissue$counts))
  }
  expect_identical(dim(example_tissue(30, 1)$counts), c(1L, 30L))
  expect_error(example_tissue(4), class = "patina_error_argument")
  expect_error(example_tissue(n_genes = 0), class = "patina_error_argument")
  expect_error(example_tissue(seed = "a"), class = "patina_error_argument")
})

test_that("the example's patterns are in its counts, and in no spot's expected total", {
  tissue <- example_tissue()
  truth <- tissue$truth
  patterns <- tissue_patterns(tissue$sample_info)
  totals <- colSums(truth$mean * (1 + truth$amplitude * t(patterns[, truth$pattern])))
  expect_equal(totals, rep(totals[1], 300))

  coords <- tissue$sample_info[c("x", "y")]
  input <- as_input(tissue$counts, coords)
  residuals <- new_normalizer(input)(input_block(input, 1:200), 1:200)
  found <- stats::cor(residuals, patterns[, -1])
  best <- colnames(found)[max.col(found)]
  spatial <- truth$pattern != "none"
  expect_identical(best[spatial], truth$pattern[spatial])

  for (normalization in c("anscombe", "pearson")) {
    hits <- spatial_test(tissue$counts, coords, normalization = normalization)$qval < 0.05
    expect_true(all(hits[spatial]))
    expect_lte(sum(hits[!spatial]), 5)
  }
})

test_that("automatic expression histology finds the example's patterns", {
  # Hubert and Arabie's index: pairs of genes that two partitions agree on, beyond chance
  adjusted_rand <- function(a, b) {
    table <- table(a, b)
    pairs <- \(counts) sum(choose(counts, 2))
    rows <- pairs(rowSums(table))
    columns <- pairs(colSums(table))
    chance <- rows * columns / choose(sum(table), 2)
    (pairs(table) - chance) / ((rows + columns) / 2 - chance)
  }
  tissue <- example_tissue()
  spatial <- tissue$truth$pattern != "none"
  found <- spatial_patterns(
    tissue$counts,
    tissue$sample_info[c("x", "y")],
    genes = tissue$truth$gene[spatial],
    n_patterns = 4,
    lengthscale = 3
  )
  expect_gt(adjusted_rand(found$genes$pattern, tissue$truth$pattern[spatial]), 0.95)
})

test_that("the example comes as a SpatialExperiment", {
  skip_if_not_installed("SpatialExperiment")
  tissue <- example_tissue(50, 8)
  spe <- example_tissue(50, 8, as = "SpatialExperiment")
  input <- as_input(spe)
  expect_identical(input_block(input, 1:8), unname(t(as.matrix(tissue$counts))))
  expect_identical(
    unname(input$coords),
    unname(as.matrix(tissue$sample_info[c("x", "y")]))
  )
  expect_identical(input$samples$total_counts, unname(tissue$sample_info$total_counts))
  expect_identical(SummarizedExperiment::rowData(spe)$pattern, tissue$truth$pattern)
})
