"""What an inference engine minimizes, by the kind of model: value, gradient, curvature, proximal
step and certificate.

base           points, energies, and choosing between points datum by datum
linear         the reconstruction term of a linear decoder, and what its energies share for all data
poisson        the free energy of a Poisson posterior; `lambertw` its proximal step
lasso          classic sparse coding
sampled        the free energy of a Poisson posterior under any decoder, by sampling
family         the free energy of any other family, by automatic differentiation
closed_form    Gaussian and categorical posteriors, whose optimum is known
rounding       what a certificate adds for it
"""
