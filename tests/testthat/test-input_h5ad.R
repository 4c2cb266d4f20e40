skip_if_not_installed("rhdf5")
skip_if_not_installed("HDF5Array")
file <- \(kind) test_path("reference", paste0("anndata_", kind, ".h5ad"))
kinds <- c("dense", "csr", "csc")

# The same table as R's own reader of HDF5 gives it.
read_table <- function() {
  counts <- rhdf5::h5read(file("dense"), "X")
  dimnames(counts) <- list(sprintf("g%02d", 0:11), sprintf("spot%02d", 0:59))
  places <- t(rhdf5::h5read(file("dense"), "obsm/spatial"))
  coords <- data.frame(x = places[, 1], y = places[, 2], row.names = colnames(counts))
  list(counts = counts, coords = coords, sample_id = rep(c("a", "b"), each = 30))
}

test_that("a file gives the numbers of a matrix, however it keeps its values", {
  table <- read_table()
  whole <- spatial_test(table$counts, table$coords, sample_id = table$sample_id, threads = 1)
  half <- spatial_test(
    table$counts / 2,
    table$coords,
    sample_id = table$sample_id,
    normalization = "none",
    threads = 1
  )
  for (kind in kinds) {
    # two libraries in uns, named by a column of obs
    expect_message(expect_message(results <- spatial_test(file(kind), threads = 1), "counts"), "sample")
    expect_identical(results, whole)
    suppressMessages({
      expect_identical(spatial_test(file(kind), layer = "X", threads = 1), whole)
      expect_identical(spatial_test(file(kind), layer = "scaled", normalization = "none", threads = 1), half)
      expect_identical(spatial_test(file(kind), assay = "scaled", normalization = "none", threads = 1), half)
      expect_identical(
        model_search(file(kind), genes = results$gene[1:3], threads = 1)$model,
        model_search(
          table$counts,
          table$coords,
          results$gene[1:3],
          sample_id = table$sample_id,
          threads = 1
        )$model
      )
      expect_identical(
        plot_genes(file(kind), genes = "g03")$data,
        plot_genes(table$counts, table$coords, "g03", sample_id = table$sample_id)$data
      )
      patterns <- spatial_patterns(
        file(kind),
        genes = c("g00", "g01"),
        n_patterns = 1,
        lengthscale = 3,
        threads = 1
      )
      expect_identical(patterns$patterns$spot, colnames(table$counts))
    })
  }
})

test_that("values stored by spot or by gene are read in blocks, all or some genes", {
  table <- read_table()
  for (kind in kinds) {
    input <- suppressMessages(as_input(file(kind)))
    expect_identical(input_block(input, 1:12), unname(t(table$counts)))
    expect_identical(input_block(input, c(12L, 3L, 4L, 1L)), unname(t(table$counts[c(12, 3, 4, 1), ])))
  }
  expect_identical(suppressMessages(as_input(file("csr"))$storage), "sparse")
  expect_identical(suppressMessages(as_input(file("csc"))$storage), "h5_columns")
  expect_identical(suppressMessages(as_input(file("dense"))$storage), "delayed")
})

test_that("obs gives covariates of all kinds, obsm and obs coordinates", {
  table <- read_table()
  samples <- suppressMessages(as_input(file("csr")))$samples
  expect_setequal(names(samples), c("sample", "batch", "flag", "area", "cell_type"))
  expect_identical(samples$sample, factor(table$sample_id))
  expect_identical(samples$flag, rep(c(TRUE, FALSE), 30))
  expect_identical(as.double(samples$area), rep(c(1, NA), 30))
  expect_identical(levels(samples$cell_type), c("glia", "neuron"))
  expect_identical(which(is.na(samples$cell_type)), 4L)
  suppressMessages({
    expect_identical(as_input(file("csr"), "spatial")$coords, as_input(file("csr"))$coords)
    expect_identical(as_input(file("csr"), "batch")$coords[, 1], samples$batch)
    expect_error(as_input(file("csr"), "X_pca"), "spatial", class = "patina_error_coords")
    expect_error(
      spatial_test(file("csr"), genes = "g01"),
      "no argument `genes`",
      class = "patina_error_argument"
    )
    expect_error(spatial_test(file("csr"), layer = "raw"), "scaled", class = "patina_error_argument")
  })
  expect_error(spatial_test("counts.csv"), "h5ad", class = "patina_error_input")
  expect_error(spatial_test("nowhere.h5ad"), "no such file", class = "patina_error_input")
  broken <- withr::local_tempfile(fileext = ".h5ad", lines = "not HDF5")
  expect_error(spatial_test(broken), "cannot be read", class = "patina_error_input")
  expect_error(
    spatial_test(table$counts, table$coords, layer = "X"),
    "for Seurat objects and AnnData files",
    class = "patina_error_argument"
  )
})

test_that("workers read files too", {
  skip_if_not_installed("BiocParallel")
  param <- BiocParallel::SnowParam(2, progressbar = FALSE)
  for (kind in c("csc", "dense")) {
    suppressMessages(expect_identical(
      spatial_test(file(kind), BPPARAM = param),
      spatial_test(file(kind), threads = 1)
    ))
  }
})

# Attributes of a dataset or group, as this version of rhdf5 can read them.
encoding <- \(path, element) h5_attributes(path, element)[c("encoding-type", "encoding-version")]

test_that("results are written into a copy, as anndata writes its own columns", {
  folder <- withr::local_tempdir()
  out <- file.path(folder, "out.h5ad")
  source <- file.path(folder, "in.h5ad")
  file.copy(file("csr"), source)
  before <- tools::md5sum(source)
  suppressMessages({
    results <- spatial_test(source, threads = 1)
    expect_identical(
      withVisible(add_results(source, results[-3, ], file = out)),
      list(value = out, visible = FALSE)
    )
  })
  expect_identical(tools::md5sum(source), before)
  contents <- h5_contents(out, NULL)
  var <- h5ad_table(out, "var", contents)
  expect_identical(var$patina_pval[-3], results$pval[-3])
  expect_identical(var$patina_pval[3], NaN)
  expect_identical(as.character(var$patina_status), replace(results$status, 3, NA))
  expect_identical(h5ad_column_order(out, "var"), c("name", paste0("patina_", names(results)[-1])))
  # as python wrote its own
  expect_identical(encoding(out, "var/patina_pval"), encoding(out, "obs/batch"))
  expect_identical(encoding(out, "var/patina_status"), encoding(out, "obs/cell_type"))
  expect_identical(encoding(out, "var/patina_status/categories"), encoding(out, "obs/cell_type/categories"))
  expect_identical(encoding(out, "var/patina_status/codes"), encoding(out, "obs/cell_type/codes"))

  # patterns, and fewer patterns later: written again, nothing stale
  second <- file.path(folder, "second.h5ad")
  suppressMessages(
    for (n in 3:2) {
      patterns <- spatial_patterns(
        out,
        genes = results$gene[1:6],
        n_patterns = n,
        lengthscale = 2,
        threads = 1
      )
      add_results(if (n == 3) out else second, patterns, file = if (n == 3) second else out, overwrite = TRUE)
    }
  )
  found <- sum(grepl("patina_pattern_", h5ad_column_order(out, "obs")))
  expect_identical(found, length(patterns$weights))
  obs <- h5ad_table(out, "obs", h5_contents(out, NULL))
  expect_identical(obs$patina_pattern_1, patterns$patterns$value[1:60])
  # the copy is as good a source as the original
  expect_identical(suppressMessages(spatial_test(out, threads = 1)), results)

  expect_error(add_results(source, results), "`file` must be", class = "patina_error_argument")
  expect_error(add_results(source, results, file = source, overwrite = TRUE), class = "patina_error_argument")
  expect_error(add_results(source, results, file = out), "overwrite", class = "patina_error_argument")
  expect_error(add_spatial_test(source, file = out), "overwrite", class = "patina_error_argument")
  expect_error(
    add_results(source, results, file = file.path(folder, "no", "out.h5ad")),
    "no folder",
    class = "patina_error_argument"
  )
  expect_length(list.files(folder, "patina-"), 0L)
})

# Where there is a Python with anndata, it reads what was written, and writes it again.
python <- Sys.getenv("PATINA_ANNDATA_PYTHON")
if (nzchar(python)) {
  test_that("Python's anndata reads the copy and what it writes is read again", {
    folder <- withr::local_tempdir()
    out <- file.path(folder, "out.h5ad")
    again <- file.path(folder, "again.h5ad")
    suppressMessages(add_spatial_test(file("csr"), file = out, threads = 1))
    code <- paste(
      "import sys, anndata",
      "a = anndata.read_h5ad(sys.argv[1])",
      "print(*[repr(float(p)) for p in a.var['patina_pval']])",
      "print(a.var['patina_status'].dtype, *a.var['patina_status'].unique())",
      "a.write_h5ad(sys.argv[2])",
      sep = "\n"
    )
    script <- withr::local_tempfile(fileext = ".py", lines = code)
    said <- system2(python, c("-W", "ignore", script, out, again), stdout = TRUE)
    results <- suppressMessages(spatial_test(file("csr"), threads = 1))
    expect_equal(as.double(strsplit(said[[1L]], " ")[[1L]]), results$pval)
    expect_identical(said[[2L]], "category ok")
    expect_identical(suppressMessages(spatial_test(again, threads = 1)), results)
  })
}
