import time,sys; import numpy as np, torch
torch.set_num_threads(1)
from lib.patients.scanner import second, orbit
from dataclasses import replace
from lib.images.volume import Volume
orbit.load()
sp=2.0
z,y,x=np.meshgrid(np.arange(150)*sp-150,np.arange(140)*sp-140,np.arange(220)*sp-220,indexing='ij')
a=np.where((x/190)**2+(y/120)**2<1,0.,-1000.); a[(x**2+(y-60)**2<20**2)]=400
v=Volume(torch.tensor(a,dtype=torch.float32),sp,[-220,-140,-150])
for f in ((1.,0,0),(0,1.,0),(0,0,1.)):
    s=replace(second.TEST,fans=f,breathing=0.)
    t=time.time(); out=second.simulate(v,[0,0,0],np.random.default_rng(0),s); print(f,time.time()-t,out.size,out.spacing,float(out.array.min()),float(out.array.max()))
