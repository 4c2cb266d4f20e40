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
