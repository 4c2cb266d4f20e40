# Pictures of factors and domains.

#' Plot spatial factors in the tissue
#'
#' One panel per factor, entitled with the share of the genes' variance that it explains.
#'
#' @param factors Result of [spatial_factors()].
#' @inheritParams plot_genes
#' @param scale `"shared"`: one colour scale for all factors. `"free"`: every factor from its smallest to
#'   its largest
#'   value.
#' @return A ggplot object. Its data are a tibble with the columns `spot`, `sample` (of several; each is a
#'   row of panels), `x` and `y` (the coordinates), `factor` (the panel's title), `value` and `shown` (what
#'   the colour stands for).
#' @section Errors:
#' `patina_error_argument` if `factors` is not a result of [spatial_factors()], or an argument does not
#' make sense.
#' @export
#' @examples
#' tissue <- example_tissue()
#' fit <- spatial_factors(tissue$counts, tissue$sample_info[c("x", "y")], n_factors = 4, threads = 1)
#' plot_factors(fit)
plot_factors <- function(
  factors,
  ...,
  scale = c("shared", "free"),
  trim = 0.01,
  axes = c(1, 2),
  spot_size = NULL,
  unit = NULL,
  ncol = NULL
) {
  look <- new_look(checked(rlang::arg_match(scale)), trim, spot_size, unit, ncol)
  check_factors(factors)
  table <- factors$factors
  names <- colnames(factors$loadings)
  coords <- as.matrix(table[colnames(factors$model$coords)])
  axes <- shown_axes(coords, axes, rlang::current_env())
  shares <- sprintf("%.1f %%", 100 * factors$summary$variance)
  titles <- panel_title(paste("Factor", factors$summary$factor), shares, table[["sample"]])
  row <- rep(seq_len(nrow(table)), times = length(names))
  data <- tibble::tibble(
    spot = table$spot[row],
    sample = table[["sample"]][row],
    !!!place_columns(coords[row, axes, drop = FALSE]),
    factor = factor(rep(titles, each = nrow(table)), titles),
    value = unlist(table[names], use.names = FALSE)
  )
  tissue <- list(coords = coords, sample_id = table[["sample"]])
  tissue_plot(data, "factor", tissue, axes, "factor", look, ...)
}

#' Colours that are told apart: many differ in lightness from those beside them
#' @noRd
domain_colours <- function(n) {
  if (n <= 8L) {
    return(grDevices::hcl.colors(max(n, 2L), "Dark 3"))
  }
  lightness <- rep_len(c(35, 60, 80), n)
  hue <- seq(0, 360, length.out = n + 1L)[seq_len(n)]
  grDevices::hcl(hue, c = 65, l = lightness)
}

#' Plot domains in the tissue
#'
#' Spots coloured by their domain; the surer the domain, the fuller the colour.
#'
#' @param domains Result of [spatial_domains()].
#' @inheritParams plot_genes
#' @return A ggplot object. Its data are `domains` with columns `x` and `y`.
#' @section Errors:
#' `patina_error_argument` if `domains` is not a result of [spatial_domains()], or an argument does not
#' make sense.
#' @export
#' @examples
#' tissue <- example_tissue()
#' fit <- spatial_factors(tissue$counts, tissue$sample_info[c("x", "y")], n_factors = 4, threads = 1)
#' plot_domains(spatial_domains(fit, n_domains = 4, threads = 1))
plot_domains <- function(domains, ..., axes = c(1, 2), spot_size = NULL, unit = NULL, ncol = NULL) {
  look <- new_look("shared", 0, spot_size, unit, ncol)
  names <- attr(domains, "patina")$coords
  if (!inherits(domains, "patina_domains") || is.null(names)) {
    abort_patina(
      "{.arg domains} must be a result of {.fun spatial_domains}, not {.obj_type_friendly {domains}}.",
      class = "argument"
    )
  }
  check_columns(domains, c("spot", names, "domain", "probability"), "domains")
  coords <- as.matrix(domains[names])
  axes <- shown_axes(coords, axes, rlang::current_env())
  places <- place_columns(coords[, axes, drop = FALSE])
  sample <- shown_samples(domains)
  data <- side_by_side(tibble::tibble(
    spot = domains$spot,
    sample = sample,
    x = places$x,
    y = places$y %||% 0,
    domain = as.factor(domains$domain),
    probability = domains$probability
  ))
  colours <- list(
    ggplot2::scale_colour_manual(
      values = domain_colours(nlevels(data$domain)),
      drop = FALSE
    ),
    ggplot2::scale_alpha(range = c(0.3, 1), limits = c(0, 1), guide = "none"),
    ggplot2::guides(colour = ggplot2::guide_legend(override.aes = list(size = 3)))
  )
  facets <- if (!is.null(sample)) ggplot2::facet_wrap(ggplot2::vars(.data$sample), ncol = look$ncol)
  if (length(axes) == 1L) {
    # along a line: a row for each domain
    return(
      ggplot2::ggplot(
        data,
        ggplot2::aes(.data$x, .data$domain, colour = .data$domain, alpha = .data$probability)
      ) +
        ggplot2::geom_point(...) +
        facets +
        colours +
        ggplot2::labs(x = colnames(coords)[[1L]], y = "domain") +
        theme_patina() +
        ggplot2::theme(legend.position = "none")
    )
  }
  ggplot2::ggplot(
    data,
    ggplot2::aes(.data$x, .data$y, colour = .data$domain, alpha = .data$probability)
  ) +
    spot_layers(list(coords = coords, sample_id = sample), axes, look, ...) +
    facets +
    scale_bar(
      data[
        if (is.null(sample)) TRUE else sample == levels(sample)[[1L]],
        c("x", "y", if (!is.null(sample)) "sample")
      ],
      look$unit
    ) +
    ggplot2::coord_fixed(clip = if (is.null(look$unit)) "on" else "off") +
    colours +
    ggplot2::labs(x = colnames(coords)[axes[[1L]]], y = colnames(coords)[axes[[2L]]]) +
    theme_tissue()
}
