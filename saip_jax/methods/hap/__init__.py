"""HAP: masked image modeling guided by human parts."""
