tissue <- fake_tissue()

panel_values <- function(plot, layer = 1L) {
  data <- ggplot2::layer_data(plot, layer)
  split(data, data$PANEL)
}

test_that("plot_genes() shows each gene's values at its spots", {
  plot <- plot_genes(tissue$counts, tissue$coords, genes = c("Stripe", "Slope"), trim = 0)
  expect_draws(plot)
  expect_equal(levels(plot$data$gene), c("Stripe", "Slope"))
  shown <- split(plot$data, plot$data$gene)
  expect_equal(shown$Stripe$value, unname(tissue$counts["Stripe", ]))
  expect_equal(shown$Slope$x, tissue$coords$x)
  expect_equal(shown$Slope$y, tissue$coords$y)
  expect_equal(shown$Slope$spot, colnames(tissue$counts))
  # Every panel uses the whole colour scale.
  for (panel in panel_values(plot)) {
    expect_true(all(c("#440154", "#FDE725") %in% panel$colour))
  }
})

test_that("a shared scale gives equal values equal colours", {
  plot <- plot_genes(
    tissue$counts,
    tissue$coords,
    genes = c("Slope", "Noise"),
    scale = "shared",
    trim = 0
  )
  panels <- panel_values(plot)
  expect_draws(plot)
  colour <- function(panel, value) unique(panel$colour[value])
  eight <- list(tissue$counts["Slope", ] == 8, tissue$counts["Noise", ] == 8)
  expect_equal(colour(panels[[1L]], eight[[1L]]), colour(panels[[2L]], eight[[2L]]))
})

test_that("one extreme spot does not hide the rest, unless asked to", {
  counts <- rbind(a = c(rep(0:9, 20), 1000))
  coords <- cbind(x = 1:201, y = rep(1:3, 67))
  colours <- function(trim) {
    length(unique(ggplot2::layer_data(plot_genes(counts, coords, genes = "a", trim = trim))$colour))
  }
  expect_equal(colours(0.01), 10L)
  expect_lt(colours(0), 10L)
  expect_equal(trimmed_range(c(rep(0, 500), 3), 0.01), c(0, 3))
  expect_null(trimmed_range(NA_real_, 0.01))
})

test_that("genes with constant or missing values are drawn too", {
  counts <- tissue$counts
  counts["Noise", 1:3] <- c(NA, Inf, NaN)
  expect_draws(plot_genes(counts, tissue$coords, genes = c("Silent", "Noise")))
  expect_draws(plot_genes(counts, tissue$coords, genes = "Silent"))
  counts["Noise", ] <- NA
  plot <- plot_genes(counts, tissue$coords, genes = c("Noise", "Slope"))
  expect_draws(plot)
  expect_equal(unique(panel_values(plot)[[1L]]$colour), "grey80")
  expect_draws(plot_genes(counts, tissue$coords, genes = "Noise"))
})

test_that("titles break before a detail beside samples, and never within a gene's name", {
  expect_equal(panel_title(c("Pattern 1", "B"), c("3 genes", "x"), NULL), c("Pattern 1 (3 genes)", "B (x)"))
  expect_equal(panel_title("Pattern 1", "3 genes", factor(1:2)), "Pattern 1\n(3 genes)")
  counts <- tissue$counts
  rownames(counts)[rownames(counts) == "Stripe"] <- "a (b)"
  half <- rep(c("one", "two"), length.out = ncol(counts))
  plot <- plot_genes(counts, tissue$coords, c("Slope", "a (b)"), sample_id = half, scale = "shared")
  columns <- structure(data.frame(gene = c("Slope", "a (b)")), type = "cols", facet = "grid")
  expect_equal(unlist(plot$facet$params$labeller(columns), use.names = FALSE), c("Slope", "a (b)"))
})

test_that("a gene without a name has its own colours, too, and leaves others theirs", {
  counts <- tissue$counts
  shown <- plot_genes(counts, tissue$coords, genes = c("Slope", "Stripe"))$data$shown
  rownames(counts)[rownames(counts) == "Stripe"] <- ""
  plot <- plot_genes(counts, tissue$coords, genes = c("Slope", ""))
  expect_identical(plot$data$shown, shown)
  expect_draws(plot)
})

test_that("genes may come from a table of results, and pseudo-genes there give way", {
  results <- fake_test()[1:2, ]
  plot <- plot_genes(tissue$counts, tissue$coords, genes = results)
  expect_equal(levels(plot$data$gene), c("Slope", "Stripe"))
  plot <- plot_genes(tissue$counts, tissue$coords, genes = results, n_genes = 1)
  expect_equal(levels(plot$data$gene), "Slope")
  results$gene[[1L]] <- "log_total_count"
  expect_message(
    plot <- plot_genes(tissue$counts, tissue$coords, genes = results, n_genes = 1),
    "log_total_count",
    class = "patina_message"
  )
  expect_equal(levels(plot$data$gene), "Stripe")
})

test_that("plot_genes() says what is wrong with genes and other arguments", {
  draw <- function(...) plot_genes(tissue$counts, tissue$coords, ...)
  expect_snapshot(error = TRUE, {
    draw()
    draw(genes = c("Slope", "Slop"))
    draw(genes = fake_test()[0, ])
    draw(genes = 1:2)
    draw(genes = data.frame(name = "Slope"))
    draw(genes = "Slope", axes = c("x", "z"))
    draw(genes = "Slope", spot_size = 0)
    draw(genes = "Slope", trim = 0.6)
    draw(genes = fake_test(), n_genes = 0)
  })
  expect_error(draw(genes = "Slop"), class = "patina_error_names")
  expect_error(draw(genes = 1), class = "patina_error_argument")
})

test_that("genes of the same name have panels of their own", {
  counts <- tissue$counts
  rownames(counts)[[2L]] <- "Slope"
  expect_warning(
    plot <- plot_genes(counts, tissue$coords, genes = "Slope"),
    class = "patina_warning_duplicated_genes"
  )
  expect_equal(levels(plot$data$gene), c("Slope (1)", "Slope (2)"))
  expect_equal(nrow(plot$data), 128L)
  expect_draws(plot)
})

test_that("one coordinate gives lines, three a pair of axes", {
  time <- c(seq(0, 6, length.out = 32), seq(0, 6, length.out = 32))
  counts <- rbind(Wave = sin(time) + rep(c(-0.1, 0.1), each = 32), Trend = time)
  line <- plot_genes(counts, data.frame(hours = time), genes = c("Wave", "Trend"))
  expect_draws(line)
  # The line goes through the mean of spots at the same place.
  drawn <- panel_values(line, 2L)[[1L]]
  expect_equal(drawn$y, sin(seq(0, 6, length.out = 32)))
  expect_equal(line$labels$x, "hours")
  expect_draws(plot_genes(counts, time, genes = "Wave", scale = "shared"))

  coords <- cbind(tissue$coords, z = rep(1:2, 32))
  plot <- plot_genes(tissue$counts, coords, genes = "Slope", axes = c("x", "z"))
  expect_equal(plot$data$y, coords$z)
  expect_equal(plot_genes(tissue$counts, coords, genes = "Slope")$data$y, coords$y)
  expect_draws(plot)
})

test_that("every sample has a row of panels", {
  sample <- rep(c("left", "right"), 32)
  plot <- plot_genes(tissue$counts, tissue$coords, genes = c("Slope", "Noise"), sample_id = sample)
  expect_draws(plot)
  expect_length(panel_values(plot), 4L)
  expect_equal(as.character(plot$data$sample[1:64]), sample)
  # Slides that lie apart are drawn at the same place.
  apart <- tissue$coords + 100 * (sample == "right")
  moved <- plot_genes(tissue$counts, apart, genes = c("Slope", "Noise"), sample_id = sample)
  expect_equal(moved$data, plot$data)
  line <- plot_genes(tissue$counts, tissue$coords["x"], genes = "Slope", sample_id = sample)
  expect_draws(line)
})

test_that("plot_genes() reads data frames and Bioconductor objects", {
  expected <- plot_genes(tissue$counts, tissue$coords, genes = "Stripe")$data
  frame <- as.data.frame(t(tissue$counts))
  expect_equal(plot_genes(frame, tissue$coords, genes = "Stripe")$data, expected)
  skip_if_not_installed("SpatialExperiment")
  spe <- SpatialExperiment::SpatialExperiment(
    assays = list(counts = tissue$counts, halved = tissue$counts / 2),
    spatialCoords = as.matrix(tissue$coords)
  )
  expect_equal(plot_genes(spe, genes = "Stripe")$data, expected)
  expect_equal(plot_genes(spe, genes = "Stripe", assay = "halved")$data$value, expected$value / 2)
})

test_that("residuals are those that the test works on, whichever genes are shown", {
  input <- as_input(tissue$counts, tissue$coords)
  for (normalization in c("anscombe", "pearson")) {
    normalize <- new_normalizer(input, new_settings(normalization))
    all <- normalize(input_block(input, 1:4), 1:4)
    plot <- plot_genes(
      tissue$counts,
      tissue$coords,
      genes = c("Noise", "Slope"),
      normalization = normalization
    )
    # as deviations from their mean, which the test takes out
    expect_equal(plot$data$value, as.vector(scale(all[, c(3L, 1L)], scale = FALSE)))
    expect_draws(plot)
  }
  expect_error(
    plot_genes(tissue$counts, tissue$coords, genes = "Noise", normalization = "log"),
    "normalization"
  )
})

test_that("slides have rows of panels, each from its own lowest place, and their own spots", {
  first <- fake_tissue()
  coords <- rbind(first$coords, first$coords * 3 + 100, as.matrix(expand.grid(x = 1:8, y = 1:8)))
  rownames(coords) <- NULL
  counts <- cbind(first$counts, first$counts, first$counts)
  colnames(counts) <- NULL
  slide <- rep(c("one", "two", "three"), each = 64)
  plot <- plot_genes(counts, coords, c("Slope", "Stripe"), sample_id = slide, unit = "mm")
  expect_draws(plot)
  expect_length(drawn_panels(plot), 6L)
  low <- tapply(plot$data$x, plot$data$sample, min)
  expect_equal(as.vector(low), c(0, 0, 0))
  width <- vapply(
    levels(plot$data$sample),
    \(id) {
      data <- ggplot2::layer_data(plot, match(id, levels(plot$data$sample)))
      data$xmax[1] - data$xmin[1]
    },
    0
  )
  expect_equal(width, c(one = 1, three = 1, two = 3))

  patterns <- spatial_patterns(
    counts,
    coords,
    c("Slope", "Stripe"),
    sample_id = slide,
    n_patterns = 2,
    lengthscale = 3,
    normalization = "none",
    threads = 1
  )
  expect_identical(patterns$patterns$sample[1:192], factor(slide))
  plot <- plot_patterns(patterns)
  expect_length(drawn_panels(plot), 6L)
  expect_equal(levels(plot$data$pattern), c("Pattern 1\n(1 gene)", "Pattern 2\n(1 gene)"))
  expect_identical(unique(plot$data$sample), factor(unique(slide)))
  expect_identical(predict(patterns)$sample, patterns$patterns$sample)
  new <- predict(patterns, data.frame(x = 1, y = 1:2), sample_id = c("two", "one"), wide = TRUE)
  expect_identical(as.character(new$sample), c("two", "one"))
})

test_that("legends say the numbers and the trim; titles and scales can be replaced", {
  plot <- plot_genes(tissue$counts, tissue$coords, c("Slope", "Stripe"), trim = 0.1)
  expect_match(plot$labels$colour, "10 % at either")
  strips <- plot$facet$params$labeller(data.frame(gene = c("Slope", "Stripe")))
  expect_match(unlist(strips)[[2L]], "Stripe\n1 to 20")
  plot <- plot + ggplot2::labs(colour = "mine") + ggplot2::scale_colour_gradient(low = "white")
  expect_identical(plot$labels$colour, "mine")
  expect_identical(plot$scales$get_scales("colour")$name, ggplot2::waiver())
  shared <- plot_genes(tissue$counts, tissue$coords, c("Slope", "Stripe"), scale = "shared", trim = 0)
  expect_no_match(shared$labels$colour, "%")
  expect_error(
    plot_genes(tissue$counts, tissue$coords, "Slope", unit = 3),
    "unit",
    class = "patina_error_argument"
  )
})

test_that("plot_genes() can be added to", {
  plot <- plot_genes(tissue$counts, tissue$coords, genes = "Slope", alpha = 0.5) +
    ggplot2::scale_y_reverse() +
    ggplot2::ggtitle("Tissue") +
    ggplot2::theme_dark()
  expect_draws(plot)
  expect_true(all(ggplot2::layer_data(plot)$alpha == 0.5))
})

test_that("plot_patterns() counts genes", {
  patterns <- fake_patterns()
  plot <- plot_patterns(patterns)
  expect_draws(plot)
  expect_equal(levels(plot$data$pattern), c("Pattern 1 (1 gene)", "Pattern 2 (2 genes)"))
  expect_equal(plot$data$value, patterns$patterns$value)
  expect_draws(plot_patterns(patterns, scale = "free"))
  # Order of rows does not matter, empty patterns count zero, one coordinate gives lines.
  shuffled <- fake_patterns(3L)
  shuffled$patterns <- shuffled$patterns[192:1, setdiff(names(shuffled$patterns), "y")]
  lines <- plot_patterns(shuffled)
  expect_draws(lines)
  expect_equal(levels(lines$data$pattern)[[3L]], "Pattern 3 (0 genes)")
  expect_error(plot_patterns(fake_test()), class = "patina_error_argument")
  expect_error(plot_patterns(list(patterns = 1)), class = "patina_error_argument")
})

test_that("pictures", {
  expect_picture(
    "genes, free scale",
    plot_genes(tissue$counts, tissue$coords, genes = c("Slope", "Stripe", "Noise"))
  )
  expect_picture(
    "genes, shared scale, two samples",
    plot_genes(
      tissue$counts,
      tissue$coords,
      genes = c("Slope", "Noise"),
      scale = "shared",
      sample_id = rep(c("a", "b"), each = 32)
    )
  )
  time <- seq(0, 24, length.out = 40)
  expect_picture(
    "genes in time",
    plot_genes(
      rbind(Day = 5 + 4 * sin(time / 12 * pi), Rise = time^2 / 50),
      data.frame(hours = time),
      genes = c("Day", "Rise")
    )
  )
  expect_picture("patterns", plot_patterns(fake_patterns()))
})

test_that("genes without any variation are shown", {
  tissue <- fake_tissue()
  expect_draws(plot_genes(rbind(a = tissue$counts["Silent", ], b = 3), tissue$coords, c("a", "b")))
})
