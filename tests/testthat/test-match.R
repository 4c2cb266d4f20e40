n_spots <- 12
counts <- few_counts()
coords <- few_coords()

test_that("spots are matched by name, and by position without names", {
  shuffled <- coords[n_spots:1, ]
  expect_identical(as_input(counts, shuffled)$coords, as_input(counts, coords)$coords)
  expect_identical(
    as_input(counts, unname_rows(shuffled))$coords,
    unname_rows(as.matrix(shuffled))
  )
  by_name <- as_input(counts, shuffled, sample_info = shuffled)
  expect_identical(by_name$samples$x, coords$x)
  # row numbers that nobody gave are not names
  expect_identical(as_input(counts, tibble::as_tibble(coords))$coords[, "x"], coords$x)
  expect_identical(as_input(unname(counts), coords)$spots, rownames(coords))
  expect_identical(as_input(unname(counts), unname_rows(coords))$spots[2], "spot2")
})

test_that("spots that do not match are named", {
  renamed <- coords
  rownames(renamed)[1] <- "zz"
  expect_snapshot(as_input(counts, renamed), error = TRUE)
  expect_snapshot(as_input(counts[, 1:10], coords), error = TRUE)
  expect_error(as_input(counts, renamed), class = "patina_error_names")
  expect_error(
    as_input(counts[, c(1, 1:11)], coords),
    "more than once",
    class = "patina_error_names"
  )
  expect_error(as_input(unname(counts), coords[1:6, ]), class = "patina_error_coords")
})

test_that("genes that share a name are all taken, each with its own row of a table", {
  tissue <- example_tissue(n_spots = 80, n_genes = 20)
  xy <- tissue$sample_info[c("x", "y")]
  counts <- as.matrix(tissue$counts)
  rownames(counts)[5] <- "gene02"
  input <- suppressWarnings(as_input(counts, xy))
  chosen <- choose_genes(c("gene03", "gene02"), input, "genes", NULL)
  expect_identical(chosen$index, c(3L, 2L, 5L))
  expect_identical(chosen$genes, c("gene03", "gene02", "gene02"))
  results <- tibble::tibble(gene = rownames(counts), qval = c(0, 1, 0, 1, 0, rep(1, 15)))
  chosen <- suppressMessages(choose_genes(results, input, "genes", NULL))
  expect_identical(chosen$index, c(1L, 3L, 5L))
  expect_identical(chosen$results$qval, c(0, 0, 0))

  expect_warning(test <- spatial_test(counts, xy, threads = 1), class = "patina_warning_duplicated_genes")
  field <- suppressWarnings(predict(test, counts, xy, genes = "gene02", threads = 1))
  expect_identical(nrow(field), 160L)
  plain <- spatial_test(tissue$counts, xy, threads = 1)
  expected <- predict(plain, tissue$counts, xy, genes = c("gene02", "gene05"), threads = 1)
  expect_identical(field$mean, expected$mean)
  expect_error(
    suppressWarnings(predict(test[5, ], counts, xy, genes = "gene02", threads = 1)),
    "gene02",
    class = "patina_error_names"
  )
  # a name that is missing is one like others while nobody asks for it
  rownames(counts)[5] <- NA
  input <- as_input(counts, xy)
  expect_identical(choose_genes(tibble::tibble(gene = input$genes), input, "genes", NULL)$index, 1:20)
})

test_that("tables that were bound together have each gene once, and an empty one is named as such", {
  input <- list(genes = c("a", "b", "c"))
  results <- data.frame(gene = c("a", "b", "c"), qval = c(0.01, 0.5, 0.02), lengthscale = 1)
  once <- suppressMessages(choose_genes(results, input, "genes", NULL))
  for (twice in list(rbind(results, results), rbind(results, results[3:1, ]))) {
    expect_message(chosen <- choose_genes(twice, input, "genes", NULL), "Taking the 2 genes")
    expect_identical(chosen[c("genes", "index")], once[c("genes", "index")])
    expect_identical(chosen$results$qval, once$results$qval)
  }
  expect_error(
    choose_genes(results[0, ], input, "genes", NULL),
    "without a row",
    class = "patina_error_argument"
  )
})
