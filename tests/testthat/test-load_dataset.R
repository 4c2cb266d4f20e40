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
